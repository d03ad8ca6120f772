"""Faults of whole processes: vLLM is killed, the gateway is told to end.

Gateways and vLLM are processes of their own here. A gateway is forked from a process that has
loaded the libraries already; recovery counts from there.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fault_outcome import (
    EVENTS,
    Outcome,
    instruct,
    question,
    response_text,
    until_well,
)
from killed_gateway import Gateway, free_port, nursery, settings_of_a_gateway
from tests.fakes import FakeVllm
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint, read_manifest

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 8
KINDS = ("vllm-killed", "sigterm", "sigterm-too-late")
UNAVAILABLE = "generator-unavailable"


def run(kinds: list[str], checkpoint: Path, repeats: int) -> dict[str, Outcome]:
    """These kinds, one after the other."""
    outcomes = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as directory:
            trial = Processes(checkpoint, Path(directory), repeats)
            if kind == "vllm-killed":
                outcomes[kind] = asyncio.run(trial.vllm_killed())
            else:
                outcomes[kind] = asyncio.run(trial.ended(late=kind == "sigterm-too-late"))
    return outcomes


@dataclass
class Processes:
    """The parts of the experiment."""

    checkpoint: Path
    directory: Path
    repeats: int
    texts: list[str] = field(default_factory=list)

    @contextmanager
    def gateways(self, vllm_url: str, **settings: str) -> Iterator[tuple[str, Nursery]]:
        """A place to start gateways; settings are names in lower case, or whole variables."""
        port = free_port()
        environment = {
            **settings_of_a_gateway(
                self.checkpoint, port, vllm_url, self.directory / "spool", None
            ),
            **{
                name if name.isupper() else f"LLMCXR_{name.upper()}": settings[name]
                for name in settings
            },
        }
        url = f"http://127.0.0.1:{port}"
        log = self.directory / "gateway.log"
        with (
            httpx.Client(base_url=url, trust_env=False) as client,
            nursery(environment, log) as process,
        ):
            yield url, Nursery(process, client, log)

    async def draw(
        self, client: httpx.AsyncClient, url: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Ask without a fault what is right."""
        for seed in range(self.repeats):
            answer = await instruct(client, url, seed, headers)
            self.texts.append(response_text(answer.raise_for_status()))

    def judge(self, outcome: Outcome, seed: int, answer: httpx.Response, allowed: set[str]) -> None:
        """An answer of either form."""
        if not answer.is_success:
            outcome.problem(answer, allowed)
        elif answer.headers["content-type"].startswith("text/event-stream"):
            outcome.stream(answer.content, seed, self.texts, allowed)
        else:
            outcome.text(response_text(answer), seed, self.texts)

    async def vllm_killed(self) -> Outcome:
        """SIGKILL while it answers, half of the callers with streams; then it is started again."""
        outcome = Outcome()
        with ExitStack() as stack:
            vllm = Vllm(self.checkpoint)
            stack.callback(vllm.kill)
            url, gateways = stack.enter_context(self.gateways(vllm.url))
            gateway = gateways.start()
            stack.callback(gateway.end, signal.SIGTERM)
            async with httpx.AsyncClient(timeout=60.0, trust_env=False) as client:
                await self.draw(client, url)
                for first in range(0, self.repeats, 2 * CLIENTS):
                    seeds = range(first, min(first + 2 * CLIENTS, self.repeats))
                    begun: set[int] = set()
                    asked = [
                        asyncio.ensure_future(self._ask(client, url, seed, begun, outcome))
                        for seed in seeds
                    ]
                    enough = len(seeds) // 4  # of the streams, half
                    while len(begun) < enough and not all(  # noqa: ASYNC110
                        one.done() for one in asked
                    ):
                        await asyncio.sleep(0.01)
                    vllm.kill()
                    await asyncio.gather(*asked)
                    vllm.start()

                    async def well() -> bool:
                        return (await instruct(client, url, 0)).is_success

                    seconds = await until_well(well)
                    outcome.recovery_seconds = max(outcome.recovery_seconds, seconds)
        return outcome

    async def _ask(
        self,
        client: httpx.AsyncClient,
        url: str,
        seed: int,
        begun: set[int],
        outcome: Outcome,
    ) -> None:
        """One caller; those with streams say when the first words are there."""
        if seed % 2:
            self.judge(outcome, seed, await instruct(client, url, seed), {UNAVAILABLE})
            return
        content = b""
        async with client.stream(
            "POST", f"{url}/instruct", json=question(seed), headers={"Accept": EVENTS}
        ) as answer:
            if not answer.is_success:
                await answer.aread()
                outcome.problem(answer, {UNAVAILABLE})
                return
            async for part in answer.aiter_bytes():
                content += part
                begun.add(seed)
        outcome.stream(content, seed, self.texts, {UNAVAILABLE})

    async def ended(self, *, late: bool) -> Outcome:
        """SIGTERM while requests are in work; too late: they take longer than it waits."""
        outcome = Outcome()
        vllm = self.fake()
        allowed = {"overloaded stopping"} if late else set()
        with (
            serve(vllm.app()) as vllm_url,
            self.gateways(
                vllm_url, drain_seconds="1" if late else "30", drain_notice_seconds="1"
            ) as (url, gateways),
        ):
            gateway = gateways.start()
            async with httpx.AsyncClient(timeout=90.0, trust_env=False) as client:
                await self.draw(client, url)
            for first in range(0, self.repeats, 3 * CLIENTS):
                seeds = range(first, min(first + 3 * CLIENTS, self.repeats))
                vllm.delay_seconds = 6.0 if late else 0.5
                vllm.token_seconds = 0.05
                await self._end_under(gateway, url, seeds, outcome, allowed, late=late)
                vllm.delay_seconds = vllm.token_seconds = 0.0
                started = time.monotonic()
                gateway = gateways.start()
                seconds = time.monotonic() - started
                outcome.recovery_seconds = max(outcome.recovery_seconds, seconds)
            gateway.end(signal.SIGTERM)
        return outcome

    async def _end_under(
        self,
        gateway: Gateway,
        url: str,
        seeds: range,
        outcome: Outcome,
        allowed: set[str],
        *,
        late: bool,
    ) -> None:
        """Requests before the signal, and within the notice after it: all are answered."""
        async with httpx.AsyncClient(timeout=90.0, trust_env=False) as client:
            half = len(seeds) // 2

            def ask(seed: int) -> asyncio.Future[httpx.Response]:
                streams = seed % 2 == 0 and not late
                return asyncio.ensure_future(instruct(client, url, seed, stream=streams))

            asked = [ask(seed) for seed in seeds[:half]]
            await asyncio.sleep(0.3)
            gateway.tell(signal.SIGTERM)
            asked += [ask(seed) for seed in seeds[half:]]
            for seed, answer in zip(
                seeds, await asyncio.gather(*asked, return_exceptions=True), strict=True
            ):
                if isinstance(answer, BaseException):
                    outcome.bad(f"no answer ({type(answer).__name__})")
                else:
                    self.judge(outcome, seed, answer, allowed)
        await asyncio.to_thread(gateway.wait_ended)

    def fake(self) -> FakeVllm:
        """A scripted vLLM in this process."""
        manifest = Checkpoint.open(self.checkpoint, verify=False).manifest
        return FakeVllm(
            manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
        )


@dataclass(frozen=True)
class Nursery:
    """Starts gateways."""

    process: subprocess.Popen[str]
    client: httpx.Client
    log: Path

    def start(self) -> Gateway:
        """One that is ready."""
        gateway = Gateway(self.process, self.client, self.log)
        gateway.wait_listening()
        return gateway


class Vllm:
    """The tests' scripted vLLM as a process that can be killed, always on the same port."""

    def __init__(self, checkpoint: Path) -> None:
        manifest = read_manifest(checkpoint)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._program = (
            "import uvicorn; from tests.fakes import FakeVllm\n"
            f"fake = FakeVllm({manifest.served_name!r}, {manifest.vocabulary.size},"
            f" max_model_len={manifest.max_model_len}, token_seconds=0.1)\n"
            f"uvicorn.run(fake.app(), port={self._port}, log_level='critical')\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Until it answers."""
        self._process = subprocess.Popen([sys.executable, "-c", self._program], cwd=ROOT)
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return
            time.sleep(0.05)
        raise RuntimeError("the scripted vLLM did not start")

    def kill(self) -> None:
        """At once, as the kernel does for want of memory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
