"""What came of one kind of fault: right answers, right errors, wrong ones, and the recovery."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from llmcxr_service.server_sent_events import EventParser

LONGEST_RECOVERY_SECONDS = 60.0
EVENTS = "text/event-stream"


@dataclass
class Outcome:
    """What came of one kind of fault.

    Attributes:
        answers: by what they were.
        wrong: that are neither the right one nor a right error.
        mixed_up: wrong ones that are another client's.
        recovery_seconds: from the fault's end to all being well.
        notes: other figures of this kind.
    """

    answers: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    mixed_up: int = 0
    recovery_seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "answers": dict(sorted(self.answers.items())),
            "wrong": self.wrong,
            "mixed_up": self.mixed_up,
            "recovery_seconds": round(self.recovery_seconds, 2),
            **self.notes,
        }

    def text(self, given: str, seed: int, expected: list[str], what: str = "right") -> None:
        """An answer that says that all went well."""
        right = given == expected[seed]
        self.answers[what if right else "wrong"] += 1
        if not right:
            self.wrong += 1
            self.mixed_up += given in expected

    def response(
        self,
        response: httpx.Response,
        seed: int,
        expected: list[str],
        allowed: Collection[str],
        read: Callable[[httpx.Response], str],
    ) -> None:
        """A whole answer, or a problem."""
        if response.is_success:
            self.text(read(response), seed, expected)
        else:
            self.problem(response, allowed)

    def problem(self, response: httpx.Response, allowed: Collection[str]) -> None:
        """A refusal; its kind must be a right one, and say when to come back where one may."""
        if not response.headers.get("content-type", "").startswith("application/problem+json"):
            self.bad(f"{response.status_code} without a problem")
            return
        retry = "retry-after" in response.headers
        self.document(response.json(), allowed, retries=retry)

    def document(
        self, problem: dict[str, Any], allowed: Collection[str], *, retries: bool, where: str = ""
    ) -> None:
        """The same where it came in another way; allowed are slugs, or slug and reason."""
        slug = problem["type"].removeprefix("/problems/")
        reason = problem.get("reason", "")
        self.answers[f"{where}{problem['status']} {slug} {reason}".strip()] += 1
        fits = slug in allowed or f"{slug} {reason}" in allowed
        if not fits or (problem["status"] == httpx.codes.SERVICE_UNAVAILABLE and not retries):
            self.wrong += 1

    def bad(self, what: str) -> None:
        """Something that must not be."""
        self.answers[what] += 1
        self.wrong += 1

    def stream(
        self, content: bytes, seed: int, expected: list[str], allowed: Collection[str]
    ) -> None:
        """A text as events: it is the right one, or as much of it as came before an error."""
        events = [(event.name, json.loads(event.data)) for event in EventParser().feed(content)]
        if not events or events[-1][0] not in ("done", "error"):
            self.bad("stream without an end")
            return
        parts = "".join(data["text"] for name, data in events if name == "text")
        last, data = events[-1]
        if last == "done" and data["response"] != parts:
            self.bad("stream whose parts are another text")
        elif last == "done":
            self.text(parts, seed, expected, "right stream")
        elif expected[seed].startswith(parts) or parts.startswith(expected[seed]):
            retries = "retry_after_seconds" in data
            self.document(data, allowed, retries=retries, where="event ")
        else:
            self.bad("stream of another text")


async def until_well(attempt: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until an attempt succeeds; at most `LONGEST_RECOVERY_SECONDS`."""
    started = time.monotonic()
    while time.monotonic() - started < LONGEST_RECOVERY_SECONDS:
        try:
            if await attempt():
                break
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.05)
    return time.monotonic() - started


def response_text(response: httpx.Response) -> str:
    """Of `/instruct`."""
    return str(response.json()["response"])


def question(seed: int) -> dict[str, Any]:
    """The body that every client asks in its own way."""
    return {"instruction": f"Explain number {seed}.", "seed": seed, "max_tokens": 24}


async def instruct(
    client: httpx.AsyncClient,
    url: str,
    seed: int,
    headers: Mapping[str, str] | None = None,
    *,
    stream: bool = False,
) -> httpx.Response:
    """Ask it."""
    sent = {**(headers or {}), **({"Accept": EVENTS} if stream else {})}
    return await client.post(f"{url}/instruct", json=question(seed), headers=sent)


async def gathered(repeats: int, clients: int, one: Callable[[int], Awaitable[None]]) -> None:
    """Do it for each seed, so many at once."""
    gate = asyncio.Semaphore(clients)

    async def within(seed: int) -> None:
        async with gate:
            await one(seed)

    await asyncio.gather(*(within(seed) for seed in range(repeats)))
