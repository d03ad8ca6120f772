"""Kill the gateway with SIGKILL while it receives and delivers, again and again, and count.

    python scripts/kill_deliveries.py --kills 200 --seed 1 --output docs/deliveries-kill.json
    python scripts/kill_deliveries.py --kills 100 --sending --output docs/deliveries-kill.json

A gateway with a tiny checkpoint, a scripted vLLM at its wire and an archive in a process of its
own that is never killed. A sender sends new instances, and repeats one until it is acknowledged,
as a modality does. In the end every instance that was acknowledged must have exactly one report
in the archive: none lost, none double, and no report's bytes may ever have changed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydicom.uid import generate_uid

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from killed_gateway import (  # noqa: E402
    Gateway,
    free_port,
    listens,
    nursery,
    settings_of_a_gateway,
    wait_until,
)
from tests import pictures  # noqa: E402
from tests.checkpoints import build_checkpoint  # noqa: E402
from tests.fakes import FakeVllm  # noqa: E402
from tests.service.conftest import serve  # noqa: E402

from llmcxr_models.checkpoint import Checkpoint  # noqa: E402

LONGEST_RUN_SECONDS = 4.0
IN_START = 0.1
"""Part of the kills that come while the gateway still starts."""
REPEATED = 0.1
"""Part of the instances that are sent once more after their acknowledgement."""
NEW_IN_A_ROUND = (0, 1)
ARCHIVE_DELAY_SECONDS = 0.4
SENDING_ARCHIVE_DELAY_SECONDS = 1.5
"""From an instance's being stored to the archive's answer: kills shall hit this gap."""
DRAIN_SECONDS = 600.0

RULES = """
[[rules]]
name = "chest"
modality = ["DX"]
action = "generate"
outputs = ["enhanced-sr"]
destinations = ["archive"]
"""
DESTINATIONS = """
[queue]
poll_seconds = 0.1
first_retry_seconds = 0.2
longest_retry_seconds = 1.0

[[destinations]]
name = "archive"
kind = "stow"
url = "{url}"
"""


@dataclass
class Sent:
    """One instance: its file, and what the gateway said."""

    uid: str
    data: bytes = field(repr=False)
    acknowledged: bool = False
    tries: int = 0


@dataclass
class Course:
    """What happened.

    Attributes:
        sent: all instances.
        in_start: kills before the gateway listened.
        behind: acknowledged instances without a report, at each kill.
    """

    sent: list[Sent] = field(default_factory=list)
    in_start: int = 0
    behind: list[int] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """How many instances were."""
        return sum(sent.acknowledged for sent in self.sent)


class Kills:
    """The whole of it.

    Args:
        directory: for spool, logs and configuration.
        checkpoint: to serve.
        vllm_url: the scripted one.
        dice: decides everything that is random.
        database: URL of a PostgreSQL database; SQLite where None.
        archive_delay_seconds: how late the archive answers.
    """

    def __init__(
        self,
        directory: Path,
        checkpoint: Path,
        vllm_url: str,
        dice: random.Random,
        database: str | None = None,
        *,
        archive_delay_seconds: float = ARCHIVE_DELAY_SECONDS,
    ) -> None:
        self._archive_delay = archive_delay_seconds
        self._log = directory / "gateway.log"
        self._dice = dice
        self.course = Course()
        self._archive_port, port = free_port(), free_port()
        (directory / "rules.toml").write_text(RULES)
        archive = f"http://127.0.0.1:{self._archive_port}"
        (directory / "destinations.toml").write_text(DESTINATIONS.format(url=archive))
        self._environment = {
            **settings_of_a_gateway(checkpoint, port, vllm_url, directory / "spool", database),
            "LLMCXR_DICOM_RULES": str(directory / "rules.toml"),
            "LLMCXR_DESTINATIONS": str(directory / "destinations.toml"),
        }
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        self._archive = httpx.Client(base_url=archive, trust_env=False)

    @contextmanager
    def processes(self) -> Iterator[None]:
        """The archive, and the nursery of gateways."""
        archive = [sys.executable, "-m", "tests.archive", str(self._archive_port)]
        archive.append(str(self._archive_delay))
        with (
            self._client,
            self._archive,
            subprocess.Popen(archive, cwd=ROOT) as archive_process,
            nursery(self._environment, self._log) as self._nursery,
        ):
            try:
                wait_until(lambda: self._state() is not None, 60.0)
                yield
            finally:
                archive_process.terminate()

    def fill(self, instances: int) -> None:
        """Have so many reports made while the archive is down, so that all wait to be sent."""
        self._archive.post("/down").raise_for_status()
        gateway = self._start()
        try:
            gateway.wait_listening()
            for _ in range(instances):
                self._new()
            while not all(sent.acknowledged for sent in self.course.sent):
                self._send_until(time.monotonic() + 10.0, new=False)
            wait_until(lambda: self._drafts() == instances, DRAIN_SECONDS)
        finally:
            gateway.end(signal.SIGKILL)
        self._archive.post("/up").raise_for_status()

    def _drafts(self) -> int:
        answer = self._client.get(
            "/deliveries", params={"state": "done", "limit": 1000}, timeout=30.0
        )
        return len(answer.raise_for_status().json()["deliveries"])

    def one_round(self, *, receiving: bool = True) -> None:
        """Start, send, kill."""
        gateway = self._start()
        try:
            if receiving and self._dice.random() < IN_START:
                time.sleep(self._dice.uniform(0.0, 4.0))
                self.course.in_start += not listens(self._client)
            else:
                gateway.wait_listening()
                end = time.monotonic() + self._dice.uniform(0.0, LONGEST_RUN_SECONDS)
                self._send_until(end, new=receiving)
            reported = len((self._state() or {})["instances"])
            self.course.behind.append(max(0, self.course.acknowledged - reported))
        finally:
            gateway.end(signal.SIGKILL)

    def drain(self) -> dict[str, Any]:
        """Let a last gateway finish everything; what is in the archive then."""
        gateway = self._start()
        try:
            gateway.wait_listening()
            while not all(sent.acknowledged for sent in self.course.sent):
                self._send_until(time.monotonic() + 5.0, new=False)
            wait_until(self._done, DRAIN_SECONDS)
            # A second report of a source would come now.
            time.sleep(5.0)
        finally:
            gateway.end(signal.SIGTERM)
        state = self._state()
        assert state is not None
        return state

    def _start(self) -> Gateway:
        return Gateway(self._nursery, self._client, self._log)

    def _send_until(self, end: float, *, new: bool = True) -> None:
        waiting = [sent for sent in self.course.sent if not sent.acknowledged]
        if new:
            again = [s for s in self.course.sent if s.acknowledged and s.tries < 3]
            if again and self._dice.random() < REPEATED:
                waiting.append(self._dice.choice(again))
            waiting += [self._new() for _ in range(self._dice.randint(*NEW_IN_A_ROUND))]
        for sent in waiting:
            if time.monotonic() < end:
                self._send(sent, end)
        time.sleep(max(0.0, end - time.monotonic()))

    def _new(self) -> Sent:
        uid = generate_uid(entropy_srcs=[str(self._dice.random())])
        data = pictures.dicom(
            len(self.course.sent),
            SOPInstanceUID=uid,
            StudyInstanceUID=generate_uid(),
            SeriesInstanceUID=generate_uid(),
        )
        sent = Sent(uid, data)
        self.course.sent.append(sent)
        return sent

    def _send(self, sent: Sent, end: float) -> None:
        """STOW one instance; the kill may come before its answer."""
        sent.tries += 1
        head = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
        try:
            response = self._client.post(
                "/dicom-web/studies",
                content=head + sent.data + b"\r\n--x--\r\n",
                headers={
                    "Content-Type": 'multipart/related; type="application/dicom"; boundary=x',
                    "Accept": "application/dicom+json",
                },
                timeout=max(0.05, end - time.monotonic()),
            )
        except httpx.HTTPError:
            return
        sent.acknowledged = sent.acknowledged or response.status_code == httpx.codes.OK

    def _done(self) -> bool:
        state = self._state()
        return state is not None and len(state["instances"]) >= len(self.course.sent)

    def _state(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = self._archive.get("/state", timeout=10.0).json()
            return state
        except httpx.HTTPError:
            return None


def count(course: Course, state: dict[str, Any]) -> dict[str, int]:
    """What was promised, and what is in the archive."""
    reports: dict[str, int] = {}
    for instance in state["instances"]:
        for source in instance["sources"]:
            reports[source] = reports.get(source, 0) + 1
    acknowledged = [sent.uid for sent in course.sent if sent.acknowledged]
    return {
        "instances": len(course.sent),
        "acknowledged": len(acknowledged),
        "sends_to_the_gateway": sum(sent.tries for sent in course.sent),
        "reports_in_the_archive": len(state["instances"]),
        "lost": sum(reports.get(uid, 0) == 0 for uid in acknowledged),
        "double": sum(number > 1 for number in reports.values()),
        "changed_bytes": state["changed"],
        "stores_at_the_archive": sum(instance["times"] for instance in state["instances"]),
        "stored_again_with_the_same_bytes": sum(i["times"] - 1 for i in state["instances"]),
        "kills_with_work_pending": sum(behind > 0 for behind in course.behind),
        "most_pending_at_a_kill": max(course.behind, default=0),
        "kills_in_start": course.in_start,
    }


def run(
    kills: int,
    seed: int,
    directory: Path,
    database: str | None = None,
    *,
    sending: bool = False,
) -> dict[str, Any]:
    """Do it all; the figures.

    Args:
        kills: how many.
        seed: of everything random but the machine's own timing.
        directory: an empty one.
        database: see `Kills`.
        sending: whether all reports are made before the first kill.
    """
    checkpoint = build_checkpoint(directory / "checkpoint")
    manifest = Checkpoint.open(checkpoint).manifest
    vllm = FakeVllm(
        manifest.served_name,
        manifest.vocabulary.size,
        max_model_len=manifest.max_model_len,
        delay_seconds=0.05,
    )
    started = time.monotonic()
    with serve(vllm.app()) as vllm_url:
        experiment = Kills(
            directory,
            checkpoint,
            vllm_url,
            random.Random(seed),
            database,
            archive_delay_seconds=(
                SENDING_ARCHIVE_DELAY_SECONDS if sending else ARCHIVE_DELAY_SECONDS
            ),
        )
        with experiment.processes():
            if sending:
                experiment.fill(kills)
            for number in range(1, kills + 1):
                experiment.one_round(receiving=not sending)
                if number % 5 == 0:
                    print(
                        f"{number} kills, {experiment.course.acknowledged} acknowledged",
                        file=sys.stderr,
                    )
            state = experiment.drain()
    return {
        "phase": "sending" if sending else "receiving, making and sending",
        "kills": kills,
        "seed": seed,
        "database": "PostgreSQL" if database else "SQLite",
        "minutes": round((time.monotonic() - started) / 60.0, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        **count(experiment.course, state),
    }


def note(figures: dict[str, Any], path: Path) -> None:
    """Write figures beside those of other kinds of runs."""
    runs = json.loads(path.read_text()) if path.exists() else []
    kind = (figures["phase"], figures["database"])
    others = [run for run in runs if (run["phase"], run["database"]) != kind]
    path.write_text(json.dumps([*others, figures], indent=2) + "\n")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--sending", action="store_true", help="Make all reports first; kill while they are sent."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="URL of an empty PostgreSQL database; else SQLite.")
    parser.add_argument("--output", type=Path, help="JSON to write.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = run(
            arguments.kills,
            arguments.seed,
            Path(directory),
            arguments.database,
            sending=arguments.sending,
        )
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):36} {value}")
    if arguments.output:
        note(figures, arguments.output)
    sys.exit(bool(figures["lost"] or figures["double"] or figures["changed_bytes"]))


if __name__ == "__main__":
    main()
