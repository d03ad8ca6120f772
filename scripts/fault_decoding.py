"""Faults of the processes that decode files: killed again and again while radiographs come."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fault_outcome import Outcome, gathered, until_well
from tests.fakes import FakeVllm
from tests.pictures import png
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings

CLIENTS = 8
KINDS = ("decode-worker-killed", "decode-template-killed")
PAUSE_SECONDS = 0.3
"""From there being workers to the next kill."""
SIDE = 800
"""Of a picture, pixels: decoding it takes long enough to be met."""
TWICE = "invalid-radiograph decoder-died"
"""A file that two workers died of is taken for the cause, which it may be."""
LATER = "decoder-unavailable decoder"


def run(kinds: list[str], checkpoint: Path, repeats: int) -> dict[str, Outcome]:
    """These kinds, one after the other, against one gateway."""
    manifest = Checkpoint.open(checkpoint, verify=False).manifest
    vllm = FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )
    with serve(vllm.app()) as upstream:
        settings = Settings(
            checkpoint=checkpoint,
            open=True,
            device="cpu",
            vqgan_threads=1,
            decode_workers=2,
            vllm_url=upstream,
        )
        with serve(create_app(settings)) as url:
            return asyncio.run(Decoding(url, repeats).run(kinds))


@dataclass
class Decoding:
    """The parts of the experiment."""

    url: str
    repeats: int
    texts: list[str] = field(default_factory=list)

    async def run(self, kinds: list[str]) -> dict[str, Outcome]:
        """Draw what is right, then try one kind after the other."""
        self._pictures = [png(seed, (SIDE, SIDE)) for seed in range(self.repeats)]
        async with httpx.AsyncClient(timeout=120.0, trust_env=False) as client:
            for seed in range(self.repeats):
                answer = await self._ask(client, seed)
                self.texts.append(_text(answer.raise_for_status()))
            return {kind: await self._under(client, kind) for kind in kinds}

    async def _ask(self, client: httpx.AsyncClient, seed: int) -> httpx.Response:
        files = {"file": ("picture.png", self._pictures[seed])}
        form = {"seed": str(seed), "temperature": "0.7"}
        return await client.post(f"{self.url}/generate-report", files=files, data=form)

    async def _under(self, client: httpx.AsyncClient, kind: str) -> Outcome:
        outcome = Outcome()
        killer = asyncio.ensure_future(_kill(outcome, template=kind == "decode-template-killed"))

        async def one(seed: int) -> None:
            answer = await self._ask(client, seed)
            outcome.response(answer, seed, self.texts, {TWICE, LATER}, _text)

        await gathered(self.repeats, CLIENTS, one)
        killer.cancel()

        async def well() -> bool:
            answer = await self._ask(client, 0)
            return answer.is_success and _text(answer) == self.texts[0]

        outcome.recovery_seconds = await until_well(well)
        return outcome


async def _kill(outcome: Outcome, *, template: bool) -> None:
    """SIGKILL again and again: of any worker, or of what they are forked from."""
    dice = random.Random(1)
    outcome.notes["kills"] = 0
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        templates = [pid for pid in _decoders() if _parent(pid) == os.getpid()]
        workers = [pid for pid in _decoders() if _parent(pid) in templates]
        if not workers:  # what was killed last is not back yet
            continue
        with suppress(ProcessLookupError):
            os.kill(templates[0] if template else dice.choice(workers), signal.SIGKILL)
            outcome.notes["kills"] += 1


def _decoders() -> list[int]:
    """Every process that decodes, also of other gateways."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"llmcxr_service.decode_worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _text(response: httpx.Response) -> str:
    body = response.json()
    return f"{body['findings']}\n{body['impression']}"
