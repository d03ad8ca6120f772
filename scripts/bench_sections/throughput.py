"""Section `throughput`: images and reports a second, beside the published pipeline's way.

In every round the published way makes one image and two reports, one after the other, and then
the gateway the same kinds with 1, 4, 16 and 32 requests at once; the published way knows no more
than one, so all are compared with that. vLLM is idle while the published way computes, and the
other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench_sections.asking import REPORT, Ask, Gateway, asking_gateway, closed_loop
from bench_sections.figures import Figures
from bench_sections.official import Official
from bench_sections.ratios import median, paired_ratio
from bench_sections.stage import Stage

LEVELS = (1, 4, 16, 32)
SECONDS = 1500
_IMAGES = {1: 1, 4: 4, 16: 16, 32: 32}
_REPORTS = {1: 2, 4: 8, 16: 32, 32: 64}
_Rates = dict[int, list[float]]


def run(stage: Stage) -> Figures:
    """Measure."""
    rounds, levels, attempts = (2, (1, 16), 2) if stage.quick else (5, LEVELS, 4)
    gateway = stage.gateway()
    official = Official(stage.checkpoint, stage.dtype, attempts)
    images, reports = _Kind(levels), _Kind(levels)
    attempted: list[int] = []
    came: list[bool] = []

    async def measure() -> None:
        async with asking_gateway(gateway) as ours:
            await _warm(ours, official)
            for number in range(rounds):
                stage.console.print(f"round {number + 1} of {rounds}")
                # 1. The published way.
                lucky = await asyncio.to_thread(official.lucky_image, REPORT, number)
                images.official.append(1.0 / lucky)
                image = await asyncio.to_thread(official.image, REPORT, number)
                attempted.append(image.attempts)
                came.append(image.came)
                seconds = []
                for one in (0, 1):
                    png = ours.radiographs(100_000 * number + one)
                    seconds.append((await asyncio.to_thread(official.report, png))[0])
                reports.official.append(len(seconds) / sum(seconds))
                # 2. Ours.
                for level in levels:
                    await images.ask(ours.image, level, _IMAGES[level], number)
                    ours.radiographs.prepare(_seeds(number, level, _REPORTS[level]))
                    await reports.ask(ours.report, level, _REPORTS[level], number)

    asyncio.run(measure())
    return {
        "rounds": rounds,
        "dtype": stage.dtype,
        "eager": stage.eager,
        "images": images.figures()
        | {
            "official_attempts": attempted,
            "official_images_that_came": sum(came),
            "official_attempts_at_most": attempts,
        },
        "reports": reports.figures(),
    }


class _Kind:
    """Rates of one kind of answer, round by round."""

    def __init__(self, levels: Sequence[int]) -> None:
        self.official: list[float] = []
        self.ours: _Rates = {level: [] for level in levels}
        self._seconds: dict[int, list[float]] = {level: [] for level in levels}

    async def ask(self, ask: Ask, level: int, count: int, number: int) -> None:
        batch = await closed_loop(ask, _seeds(number, level, count), level)
        self.ours[level].append(batch.per_second)
        self._seconds[level] += [answer.seconds for answer in batch.answers]

    def figures(self) -> Figures:
        return {
            "official_per_second": median(self.official),
            "per_second": {str(level): median(rates) for level, rates in self.ours.items()},
            "latency_seconds_p50": {str(k): median(v) for k, v in self._seconds.items()},
            "vs_official": {
                str(level): paired_ratio(rates, self.official) for level, rates in self.ours.items()
            },
        }


def _seeds(number: int, level: int, count: int) -> range:
    """Those of one round at one level; no other has one of them."""
    first = 100_000 * number + 1000 * level
    return range(first, first + count)


async def _warm(ours: Gateway, official: Official) -> None:
    """The first of each kind fills caches."""
    await ours.image(9999)
    await ours.report(9999)
    await asyncio.to_thread(official.report, ours.radiographs(9999))
