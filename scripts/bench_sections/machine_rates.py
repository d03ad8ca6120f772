"""What the machine can do at most: memory bandwidth and matrix products, by torch, all threads.

Bandwidth as STREAM counts it (McCalpin 1995): `copy` moves two words for each element, `triad`
(a = b + q c) three; `read` is a sum, one word. A decoding step only reads, and its weights may
fit into a last-level cache, so each is measured at several sizes. The best of all repetitions
counts, as in STREAM: a bound must not be too low.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from bench_sections.figures import Figures

DTYPES = ("float32", "bfloat16")


def bandwidth(sizes_mib: Sequence[int], repeats: int) -> Figures:
    """GB/s of each kernel by size of one array, MiB."""
    return {str(size): _streams(size * 2**20 // 4, repeats) for size in sizes_mib}


def _streams(elements: int, repeats: int) -> Figures:
    a, b, c = (torch.full((elements,), float(i)) for i in range(3))
    word = a.element_size() * elements
    kernels: dict[str, tuple[int, Callable[[], object]]] = {
        "copy": (2 * word, lambda: a.copy_(b)),
        "triad": (3 * word, lambda: torch.add(b, c, alpha=3.0, out=a)),
        "read": (word, lambda: b.sum()),
    }
    return {
        name: round(moved / _best(work, repeats) / 1e9, 2)
        for name, (moved, work) in kernels.items()
    }


def products(side: int, rows: Sequence[int], repeats: int) -> Figures:
    """GFLOP/s of (rows x side) @ (side x side) by type; 2 operations for each of the products."""
    found: Figures = {}
    for dtype in DTYPES:
        right = torch.randn(side, side).to(getattr(torch, dtype))
        by_rows = {}
        for count in rows:
            left = torch.randn(count, side).to(right.dtype)
            seconds = _best(lambda left=left, right=right: left @ right.t(), repeats)  # type: ignore[misc]
            by_rows[str(count)] = round(2.0 * count * side * side / seconds / 1e9, 1)
        found[dtype] = by_rows
    return found


def _best(work: Callable[[], object], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
