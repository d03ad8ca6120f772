"""A gateway with everything on, a hospital around it, and load: so that dashboards have data.

The checkpoint is the demo's; the language model is the tests' scripted one, or a real vLLM. One
destination works, one is never there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import pydicom
from dicomweb_client import DICOMwebClient
from killed_gateway import free_port, listens, settings_of_a_gateway, wait_until
from pydicom.uid import generate_uid
from pynetdicom import AE
from scripted_vllm import scripted_vllm
from tests.pictures import dicom, png

ROOT = Path(__file__).resolve().parents[1]
_KEY = "not-a-secret-on-loopback"
_RULES = """
[[rules]]
name = "hands"
body_part = ["HAND"]
action = "ignore"

[[rules]]
name = "chest"
modality = ["DX"]
action = "generate"
outputs = ["enhanced-sr", "hl7"]
destinations = ["pacs", "ris"]
"""
_DESTINATIONS = """
[queue]
poll_seconds = 0.1

[[destinations]]
name = "pacs"
kind = "stow"
url = "{archive}"

[[destinations]]
name = "ris"
kind = "mllp"
host = "127.0.0.1"
port = {nobody}
timeout_seconds = 2
"""


@dataclass(frozen=True)
class Site:
    """What runs.

    Attributes:
        gateway: its URL.
        vllm: its language model's.
        dicom_port: of its DIMSE receiver.
        process: id of the gateway.
    """

    gateway: str
    vllm: str
    dicom_port: int
    process: int


@contextmanager
def hospital_site(directory: Path, *, real: bool) -> Iterator[Site]:
    """Start everything on loopback, and end it.

    Args:
        directory: for files.
        real: a vLLM, which takes minutes.
    """
    with ExitStack() as stack:
        # The tiny checkpoint of the tests was taught no findings.
        checkpoint = ROOT / "checkpoints/demo"
        vllm = stack.enter_context(
            _real_vllm(checkpoint, directory) if real else scripted_vllm(checkpoint, 0.05)
        )
        archive, port, dicom_port = free_port(), free_port(), free_port()
        program = [sys.executable, "-m", "tests.archive", str(archive), "0.05"]
        stack.enter_context(_running(program, dict(os.environ), directory / "archive.log"))
        (directory / "rules.toml").write_text(_RULES)
        url = f"http://127.0.0.1:{archive}"
        text = _DESTINATIONS.format(archive=url, nobody=free_port())
        (directory / "destinations.toml").write_text(text)
        environment = settings_of_a_gateway(checkpoint, port, vllm, directory / "spool", None)
        environment |= {
            "LLMCXR_VLLM_API_KEY": _KEY,
            "LLMCXR_DICOM_RULES": str(directory / "rules.toml"),
            "LLMCXR_DESTINATIONS": str(directory / "destinations.toml"),
            "LLMCXR_DICOM_PORT": str(dicom_port),
            "LLMCXR_DICOM_CALLING_AE_TITLES": "ROUTER",
            "LLMCXR_JOBS": "true",
            "LLMCXR_AUDIT": str(directory / "audit"),
            # The pictures are drawn at random, and no chest.
            "LLMCXR_PIXEL_GATE": "warn",
        }
        command = [sys.executable, "-m", "llmcxr_service", "serve"]
        process = stack.enter_context(_running(command, environment, directory / "gateway.log"))
        site = Site(f"http://127.0.0.1:{port}", vllm, dicom_port, process.pid)
        with httpx.Client(base_url=site.gateway) as client:
            wait_until(lambda: listens(client), 300.0)
        yield site


class Load:
    """Asks for everything, over and over; what is refused is meant to be."""

    def __init__(self, site: Site) -> None:
        self._client = httpx.Client(base_url=site.gateway, timeout=300.0)
        self._stow = DICOMwebClient(f"{site.gateway}/dicom-web")
        self._site = site
        self.requests = 0

    def round(self, seed: int) -> None:
        """One of each kind."""
        dx, question = _dataset(seed), {"question": "Is there a pneumothorax?"}
        image = {"report": "Clear lungs. No pleural effusion.", "seed": seed}
        text = {"instruction": "Say it in other words.", "input": "The lungs are clear."}
        file = {"file": ("a.png", png(seed))}
        body = {"task": "generate-image", "items": [image]}
        post = self._client.post
        post(f"/generate-report?seed={seed}", content=png(seed))
        post("/generate-report", content=b"no picture")
        post("/generate-report", content=b"\x89PNG\r\n\x1a\n" + bytes(99))
        post("/generate-image", json=image)
        post("/answer-question", data=question, files=file)
        post("/instruct", json=text)
        post("/reconstruct", content=png(seed))
        post("/jobs", json=body)
        self._client.get("/nowhere")
        self._client.get("/model")
        self._stow.store_instances([dx])
        self.store(_dataset(seed + 1), "ROUTER")
        self.store(_dataset(seed + 2), "STRANGER")
        self.requests += 13

    def store(self, dataset: pydicom.Dataset, calling: str) -> None:
        """Send an instance by C-STORE."""
        entity = AE(ae_title=calling)
        entity.add_requested_context(dataset.SOPClassUID)
        association = entity.associate("127.0.0.1", self._site.dicom_port, ae_title="LLMCXR")
        if association.is_established:
            association.send_c_store(dataset)
            association.release()

    def close(self) -> None:
        """End its connections."""
        self._client.close()


def _dataset(seed: int) -> pydicom.Dataset:
    ids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    return pydicom.dcmread(BytesIO(dicom(seed, **ids)))


@contextmanager
def _real_vllm(checkpoint: Path, directory: Path) -> Iterator[str]:
    port = free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")},
        "LLMCXR_CHECKPOINT": str(checkpoint),
        "LLMCXR_VLLM_API_KEY": _KEY,
        "LLMCXR_VLLM_EAGER": "true",
        "LLMCXR_VLLM_MAX_NUM_SEQS": "8",
    }
    command = [sys.executable, "-m", "llmcxr_service", "vllm", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with _running(command, environment, directory / "vllm.log") as process:
        wait_until(lambda: process.poll() is not None or _is_healthy(url), 600.0)
        yield url


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            time.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
