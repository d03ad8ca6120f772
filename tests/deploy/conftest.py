"""What a gateway with everything on shows at /metrics, asked once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.certificates import make_certificate
from tests.checkpoints import build_checkpoint
from tests.fakes import FakeVllm
from tests.pictures import png

from llmcxr_models.checkpoint import read_manifest, write_manifest
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings

_RULES = """
[default]
action = "generate"
outputs = ["hl7"]
destinations = ["ris"]
"""
_DESTINATIONS = """
[[destinations]]
name = "ris"
kind = "mllp"
host = "127.0.0.1"
port = 9
"""
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True)
class Live:
    """A /metrics.

    Attributes:
        text: as it was answered.
    """

    text: str

    @property
    def families(self) -> dict[str, tuple[str, str]]:
        """Type and meaning by name; counters have their `_total`."""
        return {
            family.name + ("_total" if family.type == "counter" else ""): (
                family.type,
                family.documentation,
            )
            for family in text_string_to_metric_families(self.text)
        }

    @property
    def samples(self) -> set[str]:
        """Names of what can be asked for."""
        return {
            family.name + suffix
            for family in text_string_to_metric_families(self.text)
            for suffix in _SUFFIXES.get(family.type, ("",))
        }

    def labels(self, name: str) -> set[str] | None:
        """Of a family, without a histogram's own; None where nothing was counted yet."""
        found = [
            set(sample.labels) - {"le"}
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if name in (family.name, f"{family.name}_total")
        ]
        return found[0] if found else None


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """A gateway that has answered a little of everything."""
    directory = tmp_path_factory.mktemp("live")
    checkpoint = build_checkpoint(directory / "checkpoint")
    write_manifest(checkpoint, replace(read_manifest(checkpoint), findings=("normal",)))
    (directory / "rules.toml").write_text(_RULES)
    (directory / "destinations.toml").write_text(_DESTINATIONS)
    certificate = make_certificate(directory)
    settings = Settings(
        checkpoint=checkpoint,
        open=True,
        device="cpu",
        vqgan_threads=1,
        jobs=True,
        spool=directory / "spool",
        audit=directory / "audit",
        dicom_rules=directory / "rules.toml",
        destinations=directory / "destinations.toml",
        tls_certificate=certificate.server,
        tls_key=certificate.server,
    )
    return Live(asyncio.run(_ask(settings)))


async def _ask(settings: Settings) -> str:
    manifest = read_manifest(settings.checkpoint)
    fake = FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )
    app = create_app(settings, transport=httpx.ASGITransport(fake.app()))
    transport: Any = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60.0) as client,
    ):
        await client.post("/generate-report", content=png())
        await client.post("/generate-report", content=b"no picture")
        await client.post("/generate-image", json={"report": "Clear lungs."})
        await client.post("/reconstruct", content=png())
        return (await client.get("/metrics")).text


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def vllm_names() -> set[str]:
    """Names of samples of a real vLLM; scripts/check_dashboards.py wrote the file."""
    lines = (ROOT / "tests" / "deploy" / "vllm_metrics.txt").read_text().splitlines()
    return {line.split(" ")[0] for line in lines}
