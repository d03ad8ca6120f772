"""`llmcxr demo`: the main job once, seen from outside, against a service of its own.

Steps: start the service on a free loopback port; send a real radiograph as DICOM and another
as PNG; print the reports; send the first report back; write pictures; stop everything.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from llmcxr_models.checkpoint import read_manifest
from llmcxr_models.preprocess import to_grey8, to_pixels
from llmcxr_models.radiograph_file import read_radiograph
from llmcxr_service.client import Client
from llmcxr_service.demo_picture import NOTICE, side_by_side
from llmcxr_service.schemas import (
    ImageRequest,
    ImagesAnswer,
    ReconstructionAnswer,
    ReportAnswer,
    ReportOptions,
)
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_process import VllmState, state_directory

HOST = "127.0.0.1"
DICOM_SAMPLE = "example-patient.dcm"
PNG_SAMPLE = "cardiomegaly.png"
SEED = 2
"""Of seeds 1 and 2 the one whose picture looks more like a chest; not every seed does."""
POLL_SECONDS = 1.0
USUAL_START_SECONDS = 60.0
QUIET_LINE_SECONDS = 15.0
STOP_SECONDS = 40.0


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def run_demo(settings: Settings, samples: Path, output: Path, console: Console) -> None:
    """The whole demo.

    Raises:
        DemoError: a sample is missing, or the service does not start.
        ServiceError: the service refused.
    """
    dicom, png = _sample(samples, DICOM_SAMPLE), _sample(samples, PNG_SAMPLE)
    output.mkdir(parents=True, exist_ok=True)
    timings: dict[str, float] = {}
    with own_service(settings, timings, console) as url, Client(url) as client:
        # 1. Radiographs to reports.
        options = ReportOptions(seed=SEED)
        report = _timed(timings, "report, DICOM", lambda: client.report(dicom, options))
        show_report(report, f"Report for {DICOM_SAMPLE}", console)
        second = _timed(timings, "report, PNG", lambda: client.report(png, options))
        show_report(second, f"Report for {PNG_SAMPLE}", console)
        # 2. The first report back to a radiograph.
        console.print("Sending the first report back to get a radiograph ...")
        text = report.text.strip()
        if not text:
            raise DemoError("The model wrote an empty report, so there is nothing to draw.")
        wanted = ImageRequest(report=text, seed=SEED)
        drawn = _timed(timings, "radiograph from report", lambda: client.image(wanted))
        seen = _timed(timings, "reconstruction", lambda: client.reconstruct(dicom))
        # 3. Files.
        write_output(output, model_view(dicom, settings), report, drawn, seen)
    show_timings(timings, console)
    console.print(f"Written: {output}/{{input,generated,side-by-side}}.png, report.json")
    console.print(f"[bold]{NOTICE}[/bold]")


@contextlib.contextmanager
def own_service(settings: Settings, timings: dict[str, float], console: Console) -> Iterator[str]:
    """Run a service of our own on a free port, ready to answer, and end it afterwards.

    Raises:
        DemoError: it does not become ready.
    """
    port = _free_port()
    log_file = state_directory() / "demo-service.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "llmcxr_service", "serve", "--end-with-stdin"]
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            command,
            env=_environment(os.environ, port),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with Client(f"http://{HOST}:{port}") as client:
            started = time.monotonic()
            deadline = started + settings.vllm_start_timeout_seconds + 60.0
            wait_ready(client, process, log_file, deadline, console)
            timings["service start"] = time.monotonic() - started
        yield f"http://{HOST}:{port}"
    finally:
        _end(process)


def wait_ready(
    client: Client,
    process: subprocess.Popen[bytes],
    log_file: Path,
    deadline: float,
    console: Console,
) -> None:
    """Show progress until the service is ready.

    Raises:
        DemoError: it ended, failed to start vLLM, or took too long.
    """
    for elapsed in _progress(console):
        reasons = client.not_ready()
        if reasons == []:
            console.print(f"The service is ready after {elapsed:.0f} s.")
            return
        failed = any(VllmState.WAITING in reason for reason in reasons or [])
        if process.poll() is not None or failed or time.monotonic() > deadline:
            lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            end = "\n".join(lines).replace("\\n", "\n")
            raise DemoError(f"The service did not start. The end of {log_file}:\n{end}")


def model_view(radiograph: bytes, settings: Settings) -> bytes:
    """The radiograph as the model gets it, as PNG."""
    preprocessing = read_manifest(settings.checkpoint).preprocessing
    pixels = to_pixels(read_radiograph(radiograph, preprocessing.pipeline), preprocessing)
    file = io.BytesIO()
    Image.fromarray(to_grey8(pixels)).save(file, "PNG")
    return file.getvalue()


def write_output(
    output: Path,
    view: bytes,
    report: ReportAnswer,
    drawn: ImagesAnswer,
    seen: ReconstructionAnswer,
) -> None:
    """Write the four files."""
    (output / "input.png").write_bytes(view)
    text = report.model_dump_json(indent=2) + "\n"
    (output / "report.json").write_text(text, encoding="utf-8")
    (output / "generated.png").write_bytes(drawn.images[0].png)
    panels = [
        ("Input", view),
        ("What the VQ-GAN keeps of it", seen.png),
        ("Drawn from the report", drawn.images[0].png),
    ]
    side_by_side(panels, output / "side-by-side.png")


def show_report(answer: ReportAnswer, title: str, console: Console) -> None:
    """Print a report and its doubts."""
    sections = (("Findings", answer.findings), ("Impression", answer.impression))
    lines = [f"{name}: {body}" for name, body in sections if body] or [answer.text or "(empty)"]
    lines += [f"Warning: {warning}" for warning in answer.warnings]
    # Text, not markup: what a model wrote may hold square brackets.
    console.print(Panel(Text("\n".join(lines)), title=title, subtitle="AI-generated draft"))


def show_timings(timings: Mapping[str, float], console: Console) -> None:
    """Print wall times."""
    table = Table("Step", "Seconds", title="Timings")
    for step, seconds in timings.items():
        table.add_row(step, f"{seconds:.1f}")
    console.print(table)


def _progress(console: Console) -> Iterator[float]:
    """Seconds since the beginning, once a second, with a bar (or now and then a line)."""
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("vLLM is starting", total=USUAL_START_SECONDS)
        said = 0.0
        while True:
            elapsed = time.monotonic() - started
            # It creeps towards the end and does not claim to be there.
            progress.update(task, completed=min(elapsed, 0.95 * USUAL_START_SECONDS))
            if not console.is_terminal and elapsed - said >= QUIET_LINE_SECONDS:
                said = elapsed
                console.print(f"vLLM is starting ({elapsed:.0f} s) ...")
            yield elapsed
            time.sleep(POLL_SECONDS)


def _timed(timings: dict[str, float], name: str, act: Any) -> Any:  # noqa: ANN401
    started = time.monotonic()
    result = act()
    timings[name] = time.monotonic() - started
    return result


def _environment(inherited: Mapping[str, str], port: int) -> dict[str, str]:
    """The user's own settings, but a port of its own and, if not set, a fast start."""
    # Open, but only on loopback, on a port drawn at random, for a minute, with public pictures.
    ours = {"LLMCXR_HOST": HOST, "LLMCXR_PORT": str(port), "LLMCXR_OPEN": "true"}
    return {"LLMCXR_VLLM_EAGER": "true", **inherited, **ours}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the service to end and wait; it ends its vLLM itself."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _sample(samples: Path, name: str) -> bytes:
    try:
        return (samples / name).read_bytes()
    except OSError as error:
        raise DemoError(f"{samples / name} cannot be read.") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
