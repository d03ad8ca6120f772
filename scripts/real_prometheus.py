"""A Prometheus on loopback with the rules of deploy/prometheus, and its answers."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from killed_gateway import free_port, wait_until

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "deploy" / "prometheus"


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Attributes:
        labels: that tell it from the others.
        points: time (s) and value; without those that are no number.
    """

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """Asks a Prometheus.

    Args:
        url: of its API.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=60.0)

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._client.get("/status/buildinfo").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """What a panel would draw.

        Raises:
            ValueError: it is no PromQL.
        """
        question: dict[str, Any] = {"query": expr, "start": start, "end": end, "step": step}
        answer = self._client.post("/query_range", data=question).json()
        if answer["status"] != "success":
            raise ValueError(f"{expr}: {answer['error']}")
        return [
            Series(found["metric"], _numbers(found["values"])) for found in answer["data"]["result"]
        ]

    def firing(self) -> list[str]:
        """Names of the alerts that fire."""
        alerts = self._client.get("/alerts").json()["data"]["alerts"]
        return sorted({a["labels"]["alertname"] for a in alerts if a["state"] == "firing"})


@contextmanager
def prometheus(directory: Path, targets: Mapping[str, str], seconds: int) -> Iterator[Prometheus]:
    """One that scrapes the targets of these jobs, and looks at everything every few seconds.

    Args:
        directory: for its files.
        targets: host and port by job.
        seconds: between scrapes and between evaluations.
    """
    rules = directory / "rules"
    shutil.copytree(SOURCE / "rules", rules)
    for path in rules.glob("*.yml"):
        # In production some are looked at less often.
        path.write_text(re.sub(r"^    interval: .*\n", "", path.read_text(), flags=re.M))
    config = yaml.safe_load((SOURCE / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"}
    for job in config["scrape_configs"]:
        job.pop("authorization", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", f"--config.file={directory / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={directory / 'data'}", "--log.level=warn"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            asked = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(asked.is_ready, 120.0)
            yield asked
        finally:
            process.terminate()
            process.wait(60)


def _numbers(values: list[tuple[float, str]]) -> tuple[tuple[float, float], ...]:
    points = ((float(when), float(value)) for when, value in values)
    return tuple((when, value) for when, value in points if math.isfinite(value))
