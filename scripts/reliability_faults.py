"""Section `faults`: many clients while vLLM, the wire to it, or a client misbehaves.

Every answer must be the right one or the right error of the documented kinds; no client may get
what another one asked for; and after the fault all must be well again within seconds. A proxy
breaks every second call; the answers that are right were drawn before, without a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fault_clock
import fault_decoding
import fault_processes
import fault_stores
import fault_streams
import httpx
from fault_outcome import Outcome, instruct, response_text
from reliability_runs import machine
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


def add_fault_options(parser: argparse.ArgumentParser) -> None:
    """The section's options."""
    parser.add_argument("--repeats", type=int, default=100, help="requests under each fault")
    parser.add_argument("--kinds", default="", help="only these, separated by commas")
    parser.add_argument(
        "--add", action="store_true", help="keep what is known of other kinds, run as often"
    )


Group = Callable[[list[str], Path, int], dict[str, Outcome]]


def groups() -> dict[str, Group]:
    """What runs each kind."""
    found: dict[str, Group] = dict.fromkeys((*KINDS, *OF_THE_GATEWAY), run_proxied)
    for module in (fault_streams, fault_decoding, fault_stores, fault_processes, fault_clock):
        found |= dict.fromkeys(module.KINDS, module.run)
    return found


def run_faults(arguments: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    """All kinds; those of a group one after the other, against the same gateway where it may be.

    A kind that needs what is not there, a disk or a clock of its own, is named under `not_run`.
    """
    # What breaks here is broken on purpose.
    for name in ("uvicorn.error", "llmcxr_service", "dbos"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    known = groups()
    kinds = arguments.kinds.split(",") if arguments.kinds else list(known)
    by_kind: dict[str, dict[str, Any]] = {}
    if arguments.add:
        by_kind = _earlier(arguments.output, arguments.repeats)
    for group in dict.fromkeys(known[kind] for kind in kinds):
        load = machine()["load_average_before"]
        wanted = [kind for kind in kinds if known[kind] is group]
        try:
            outcomes = group(wanted, checkpoint, arguments.repeats)
        except (fault_stores.NoDisk, fault_clock.NoClock) as error:
            print(f"{', '.join(wanted)}: {error}", file=sys.stderr)
            continue
        for kind, outcome in outcomes.items():
            by_kind[kind] = outcome.figures() | {"load_average": load}
            print(kind, json.dumps(by_kind[kind]), file=sys.stderr, flush=True)
    return _result(arguments.repeats, by_kind, [kind for kind in known if kind not in by_kind])


def _earlier(output: Path, repeats: int) -> dict[str, dict[str, Any]]:
    """What a file has of kinds that were run as often."""
    known = json.loads(output.read_text()).get("faults", {}) if output.exists() else {}
    by_kind: dict[str, dict[str, Any]] = known.get("by_kind", {})
    return by_kind if known.get("repeats") == repeats else {}


def run_proxied(kinds: list[str], checkpoint: Path, repeats: int) -> dict[str, Outcome]:
    """What a proxy breaks, and what clients do, against one gateway that is never restarted."""
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
        trial = Trial(one, two, vllms[0], proxies[0], repeats)
        return asyncio.run(trial.run(kinds))


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


def _result(repeats: int, by_kind: dict[str, dict[str, Any]], missing: list[str]) -> dict[str, Any]:
    found = by_kind.values()
    wrong = sum(kind["wrong"] for kind in found)
    mixed_up = sum(kind["mixed_up"] for kind in found)
    slowest = max(kind["recovery_seconds"] for kind in found)
    return {
        "kinds": len(by_kind),
        "not_run": missing,
        "repeats": repeats,
        "answers": sum(sum(kind["answers"].values()) for kind in found),
        "wrong": wrong,
        "mixed_up": mixed_up,
        "slowest_recovery_seconds": slowest,
        "by_kind": by_kind,
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
        self,
        client: httpx.AsyncClient,
        seed: int,
        url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        return await instruct(client, url or self.one, seed, headers)

    async def _under(self, client: httpx.AsyncClient, kind: str) -> Outcome:
        outcome = Outcome()
        url, allowed = self.one, frozenset({UNAVAILABLE})
        headers: dict[str, str] = {}
        if kind in KINDS:
            self.proxy.break_by(kind, every=2)
            allowed = right_errors(kind)
        elif kind == "one-of-two-gone":
            self.proxy.break_by("refused")
            url, allowed = self.two, frozenset()
        elif kind == "deadline":
            self.vllm.delay_seconds = 0.5
            headers = {"Request-Timeout": "0.2"}
            allowed = frozenset({"deadline-exceeded", "overloaded"})
        elif kind == "client-gone":
            allowed = frozenset()
        gate = asyncio.Semaphore(CLIENTS)

        async def one(seed: int) -> None:
            async with gate:
                answer = await self._ask(client, seed, url, headers)
                outcome.response(answer, seed, self.expected, allowed, response_text)

        beside = [self._slow_client(kind), self._gone_clients(client, kind)]
        await asyncio.gather(*(one(seed) for seed in range(self.repeats)), *beside)
        self.proxy.mend()
        self.vllm.delay_seconds = 0.0
        outcome.recovery_seconds = await self._recovery(client)
        return outcome

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
