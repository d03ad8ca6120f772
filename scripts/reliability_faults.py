"""Section `faults`: many clients while vLLM, the wire to it, or a client misbehaves.

Every answer must be the right one or the right error of the documented kinds; no client may get
what another one asked for; and after the fault all must be well again within seconds. A proxy
breaks every second call; the answers that are right were drawn before, without a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.fakes import FakeVllm
from tests.fault_proxy import ANSWERS, BODIES, KINDS, STATUSES, FaultProxy
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings

CLIENTS = 8
TIMEOUT_SECONDS = 10.0
RECOVERY_SECONDS = 5.0
TRANSPARENT = frozenset({"late", "slow-bytes"})
"""What a caller must not notice."""
HANGING = frozenset({"hanging", "hanging-in-body"})
UNAVAILABLE = "generator-unavailable"
OF_THE_GATEWAY = ("client-gone", "slow-client", "deadline", "one-of-two-gone")


@dataclass
class Outcome:
    """What came of one kind of fault."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    mixed_up: int = 0
    recovery_seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "answers": dict(sorted(self.answers.items())),
            "wrong": self.wrong,
            "mixed_up": self.mixed_up,
            "recovery_seconds": round(self.recovery_seconds, 2),
        }


def add_fault_options(parser: argparse.ArgumentParser) -> None:
    """The section's options."""
    parser.add_argument("--repeats", type=int, default=100, help="requests under each fault")
    parser.add_argument("--kinds", default="", help="only these, separated by commas")


def run_faults(arguments: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    """All kinds, one after the other, against one gateway that is never restarted."""
    kinds = arguments.kinds.split(",") if arguments.kinds else [*KINDS, *OF_THE_GATEWAY]
    manifest = Checkpoint.open(checkpoint, verify=False).manifest
    with ExitStack() as stack:
        vllms, proxies = [], []
        for _ in range(2):
            vllm = FakeVllm(
                manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
            )
            upstream = stack.enter_context(serve(vllm.app()))
            vllms.append(vllm)
            proxies.append(stack.enter_context(FaultProxy(upstream).running()))
        one = stack.enter_context(serve(create_app(_settings(checkpoint, proxies[0].url))))
        two = stack.enter_context(
            serve(create_app(_settings(checkpoint, ",".join(p.url for p in proxies))))
        )
        trial = Trial(one, two, vllms[0], proxies[0], arguments.repeats)
        outcomes = asyncio.run(trial.run(kinds))
    return _result(arguments.repeats, outcomes)


def _settings(checkpoint: Path, urls: str) -> Settings:
    return Settings(
        checkpoint=checkpoint,
        open=True,
        device="cpu",
        vqgan_threads=1,
        decode_workers=1,
        vllm_url=urls,
        request_timeout_seconds=TIMEOUT_SECONDS,
    )


def _result(repeats: int, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    wrong = sum(o.wrong for o in outcomes.values())
    mixed_up = sum(o.mixed_up for o in outcomes.values())
    slowest = max(o.recovery_seconds for o in outcomes.values())
    return {
        "kinds": len(outcomes),
        "repeats": repeats,
        "answers": sum(sum(o.answers.values()) for o in outcomes.values()),
        "wrong": wrong,
        "mixed_up": mixed_up,
        "slowest_recovery_seconds": round(slowest, 2),
        "by_kind": {kind: outcome.figures() for kind, outcome in outcomes.items()},
        "holds": wrong == 0 and mixed_up == 0 and slowest <= RECOVERY_SECONDS,
    }


def right_errors(kind: str) -> frozenset[str]:
    """The problem types that may answer a call that met this fault; none for an unseen one."""
    if kind in TRANSPARENT:
        return frozenset()
    if kind in HANGING:
        return frozenset({"generator-timeout", UNAVAILABLE})
    if kind in BODIES or kind in ANSWERS or kind == "false-gzip":
        return frozenset({"generator-misbehaved", UNAVAILABLE})
    status = STATUSES.get(kind)
    if status in {None, 429, 502, 503, 504}:
        return frozenset({UNAVAILABLE})
    return frozenset(
        {"generator-rejected" if 400 <= (status or 0) < 500 else "generator-misbehaved"}
        | {UNAVAILABLE}  # the circuit may be open
    )


@dataclass
class Trial:
    """The parts of the experiment: gateways with one and with two vLLMs, and what is broken."""

    one: str
    two: str
    vllm: FakeVllm
    proxy: FaultProxy
    repeats: int
    expected: list[str] = field(default_factory=list)

    async def run(self, kinds: list[str]) -> dict[str, Outcome]:
        """Draw what is right, then try one kind after the other."""
        outcomes = {}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60.0, limits=limits, trust_env=False) as client:
            for seed in range(self.repeats):
                response = await self._ask(client, seed)
                response.raise_for_status()
                self.expected.append(response.json()["response"])
            for kind in kinds:
                outcomes[kind] = await self._under(client, kind)
        return outcomes

    async def _ask(
        self, client: httpx.AsyncClient, seed: int, url: str = "", **headers: str
    ) -> httpx.Response:
        body = {"instruction": f"Explain number {seed}.", "seed": seed, "max_tokens": 24}
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        return await client.post(f"{url or self.one}/instruct", json=body, headers=headers)

    async def _under(self, client: httpx.AsyncClient, kind: str) -> Outcome:
        outcome = Outcome()
        url, headers, allowed = self.one, {}, frozenset({UNAVAILABLE})
        if kind in KINDS:
            self.proxy.break_by(kind, every=2)
            allowed = right_errors(kind)
        elif kind == "one-of-two-gone":
            self.proxy.break_by("refused")
            url, allowed = self.two, frozenset()
        elif kind == "deadline":
            self.vllm.delay_seconds = 0.5
            headers = {"Request_Timeout": "0.2"}
            allowed = frozenset({"deadline-exceeded", "overloaded"})
        elif kind == "client-gone":
            allowed = frozenset()
        gate = asyncio.Semaphore(CLIENTS)

        async def one(seed: int) -> None:
            async with gate:
                self._judge(outcome, seed, await self._ask(client, seed, url, **headers), allowed)

        beside = [self._slow_client(kind), self._gone_clients(client, kind)]
        await asyncio.gather(*(one(seed) for seed in range(self.repeats)), *beside)
        self.proxy.mend()
        self.vllm.delay_seconds = 0.0
        outcome.recovery_seconds = await self._recovery(client)
        return outcome

    def _judge(
        self, outcome: Outcome, seed: int, response: httpx.Response, allowed: frozenset[str]
    ) -> None:
        if response.status_code == httpx.codes.OK:
            text = response.json()["response"]
            outcome.answers["right" if text == self.expected[seed] else "wrong"] += 1
            if text != self.expected[seed]:
                outcome.wrong += 1
                outcome.mixed_up += text in self.expected
            return
        problem = response.json()
        slug = problem["type"].removeprefix("/problems/")
        outcome.answers[f"{response.status_code} {slug} {problem.get('reason', '')}".strip()] += 1
        needs_wait = response.status_code == httpx.codes.SERVICE_UNAVAILABLE
        if slug not in allowed or (needs_wait and "retry-after" not in response.headers):
            outcome.wrong += 1

    async def _recovery(self, client: httpx.AsyncClient) -> float:
        started = time.monotonic()
        while time.monotonic() - started < 60.0:
            if (await self._ask(client, 0)).is_success and not self.vllm.running:
                break
            await asyncio.sleep(0.05)
        return time.monotonic() - started

    async def _slow_client(self, kind: str) -> None:
        """Sends its body byte by byte; the others must not notice."""
        if kind != "slow-client":
            return
        host, port = self.one.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /instruct HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        for _ in range(40):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        writer.close()

    async def _gone_clients(self, client: httpx.AsyncClient, kind: str) -> None:
        """Go away in the middle of a generation, beside those who stay."""
        if kind != "client-gone":
            return
        self.vllm.delay_seconds = 0.2
        for seed in range(self.repeats):
            task = asyncio.ensure_future(self._ask(client, seed % self.repeats))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
