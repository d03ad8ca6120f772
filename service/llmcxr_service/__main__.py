"""`llmcxr`: the command for those who run the service, and its client at a terminal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from llmcxr_models.guidance_request import LARGEST_STRENGTH
from llmcxr_models.idle_threads import wait_briefly
from llmcxr_service.arenas import keep_few_arenas
from llmcxr_service.audit_command import app as audit
from llmcxr_service.batch.command import batch
from llmcxr_service.client import Client, ServiceError, read_key
from llmcxr_service.deliveries_command import app as deliveries
from llmcxr_service.dicom_command import dicom_check, dicom_listen
from llmcxr_service.keys_command import app as keys
from llmcxr_service.schemas import (
    MAX_CANDIDATES,
    MAX_IMAGES,
    ImageRequest,
    ReportAnswer,
    ReportOptions,
)
from llmcxr_service.settings import Settings, SettingsError, load_settings

_SEVERAL_DRAFTS_TEMPERATURE = 0.7
REPOSITORY = Path(__file__).resolve().parents[2]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(deliveries, name="deliveries")
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")
console = Console()
problems = Console(stderr=True)

Url = Annotated[str, typer.Option(help="Where the service listens; else as LLMCXR_HOST/PORT.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="File with an API key; else as LLMCXR_KEY_FILE.", dir_okay=False),
]
Seed = Annotated[int | None, typer.Option(min=0, help="The same seed, the same answer.")]


@app.command()
def serve(
    end_with_stdin: Annotated[bool, typer.Option("--end-with-stdin", hidden=True)] = False,
) -> None:
    """Run the service; without LLMCXR_VLLM_URL with a vLLM of its own."""
    # The VQ-GAN shares the cores with vLLM. Before the import, which loads torch.
    wait_briefly(os.environ)
    keep_few_arenas()
    from llmcxr_service.deliveries.outcome import DestinationsError
    from llmcxr_service.serving import run_service

    with spoken(DestinationsError):
        run_service(settings_or_exit(), end_with_parent=end_with_stdin)


@app.command()
def check() -> None:
    """Say what is right and wrong with this installation; status 1 where something is wrong."""
    from llmcxr_service.checks import Level, check_installation

    marks = {
        Level.GOOD: "[green]ok   [/]",
        Level.DOUBT: "[yellow]doubt[/]",
        Level.WRONG: "[red]WRONG[/]",
    }
    wrong = False
    for finding in check_installation(settings_or_exit()):
        console.print(marks[finding.level], end=" ")
        console.print(finding.sentence, markup=False, highlight=False)
        wrong = wrong or finding.level is Level.WRONG
    raise typer.Exit(int(wrong))


@app.command()
def vllm(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    show: Annotated[bool, typer.Option("--show", help="Print the command, do not run it.")] = False,
    config: Annotated[Path | None, typer.Option(help="Write vLLM's --config file instead.")] = None,
) -> None:
    """Run vLLM alone for the checkpoint, for a gateway elsewhere that has LLMCXR_VLLM_URL.

    Its key is LLMCXR_VLLM_API_KEY.
    """
    from llmcxr_service.vllm_alone import exec_vllm, show_command, write_config

    settings = settings_or_exit()
    with spoken():
        if config is not None:
            write_config(settings, host, port, config)
        elif show:
            console.print(show_command(settings, host, port), soft_wrap=True, markup=False)
        else:
            exec_vllm(settings, host, port)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="DICOM, PNG or JPEG.")],
    indication: Annotated[str, typer.Option(help="Why the study was made.")] = "",
    seed: Seed = None,
    drafts: Annotated[
        int, typer.Option(min=1, max=MAX_CANDIDATES, help="The one that agrees most is printed.")
    ] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, help="0, or 0.7 for several drafts.")
    ] = None,
    url: Url = "",
    key_file: KeyFile = None,
) -> None:
    """Print the draft report of a radiograph, by a running service."""
    if temperature is None:
        temperature = _SEVERAL_DRAFTS_TEMPERATURE if drafts > 1 else 0.0
    if drafts > 1 and temperature == 0.0:
        raise typer.BadParameter("several drafts need a temperature above 0")
    options = ReportOptions(indication=indication, seed=seed, n=drafts, temperature=temperature)
    with spoken(), Client(url or own_url(), key=key_of(key_file)) as client:
        answer = client.report(file.read_bytes(), options)
    for name, text in (("Findings", answer.findings), ("Impression", answer.impression)):
        if text:
            console.print(f"{name}: {text}", markup=False, highlight=False)
    if not (answer.findings or answer.impression):
        problems.print("The model wrote an empty report.")
    for sentence in (*(f"Warning: {warning}" for warning in answer.warnings), *_doubt(answer)):
        problems.print(sentence, markup=False, highlight=False)
    problems.print("AI-generated draft, research use only.")


@app.command()
def image(
    text: Annotated[str, typer.Argument(help="Report text.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")],
    seed: Seed = None,
    best_of: Annotated[
        int,
        typer.Option(min=1, max=MAX_IMAGES, help="Drawn; the checkpoint's judge picks the best."),
    ] = 1,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=LARGEST_STRENGTH,
            help="How strongly to lean towards the report's findings; absent, the checkpoint's.",
        ),
    ] = None,
    url: Url = "",
    key_file: KeyFile = None,
) -> None:
    """Draw a synthetic radiograph for a report, by a running service."""
    with spoken(), Client(url or own_url(), key=key_of(key_file)) as client:
        drawn = client.image(
            ImageRequest(report=text, seed=seed, best_of=best_of, guidance=guidance)
        )
    output.write_bytes(drawn.images[0].png)
    for warning in drawn.warnings:
        problems.print(f"Warning: {warning}", markup=False, highlight=False)
    for candidate in drawn.candidates:
        mark = "picked" if candidate.chosen else "left"
        agreement = "-" if candidate.agreement is None else f"{candidate.agreement:.3f}"
        problems.print(f"Seed {candidate.seed}: agreement {agreement}, {mark}.", highlight=False)
    console.print(f"{output}: AI-generated, research use only; seed {drawn.seed}.")


@app.command()
def demo(
    samples: Annotated[Path, typer.Option(help="Where the sample radiographs are.")] = (
        REPOSITORY / "samples"
    ),
    output: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo-output"),
) -> None:
    """Start a service, send it a radiograph, send it the report back, stop it."""
    from llmcxr_service.demo import DemoError, run_demo

    # SIGTERM must take the same way out as Ctrl-C, past everything that has to be ended.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    with spoken(DemoError):
        run_demo(settings_or_exit(), samples, output, console)


app.command("batch")(batch)
app.command("dicom-listen")(dicom_listen)
app.command("dicom-check")(dicom_check)


def _doubt(answer: ReportAnswer) -> Iterator[str]:
    """How usual the answer is for the model, and how far its drafts agree."""
    if answer.mean_log_probability is not None:
        yield f"Mean log probability of a token: {answer.mean_log_probability:.3f}."
    if answer.agreement is not None:
        findings, text = answer.agreement.findings, answer.agreement.text
        yield (
            f"Agreement of the {len(answer.candidates)} drafts: {findings:.2f} in findings,"
            f" {text:.2f} in words."
        )


def settings_or_exit() -> Settings:
    """Settings from the environment, or the end of the program with a sentence."""
    try:
        return load_settings()
    except SettingsError as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None


def own_url() -> str:
    """Where the service listens by the settings of this environment."""
    settings = settings_or_exit()
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{host}:{settings.port}"


def key_of(file: Path | None) -> str | None:
    """The API key in a file, or in the one that the settings name.

    Raises:
        ServiceError: it cannot be read.
    """
    file = file or settings_or_exit().key_file
    return None if file is None else read_key(file)


@contextmanager
def spoken(*kinds: type[Exception]) -> Iterator[None]:
    """Turn what is expected to go wrong into a sentence and a status."""
    from llmcxr_models.errors import CxrError

    expected: tuple[type[Exception], ...] = (ServiceError, CxrError, *kinds)
    try:
        yield
    except expected as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        problems.print("Interrupted.")
        raise typer.Exit(130) from None


def _raise_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
