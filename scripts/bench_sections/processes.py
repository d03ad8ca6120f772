"""Processes below one: what they computed and how much memory they had at most. From /proc."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_KINDS = (
    ("EngineCore", "vLLM, engine"),
    ("vllm_launcher", "vLLM, API server"),
    ("decode_worker", "decode workers"),
    ("resource_tracker", "resource tracker"),
    ("llmcxr_service demo", "demo"),
    ("llmcxr demo", "demo"),
    ("llmcxr_service serve", "gateway"),
)


def family(pid: int) -> set[int]:
    """A process and all below it that live now."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = {pid}, [pid]
    while waiting:
        new = [child for child in children.get(waiting.pop(), []) if child not in found]
        found.update(new)
        waiting += new
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of the families of these processes, those that ended and were waited for too.

    Fields 14 to 17 of proc(5)'s `stat`: user and system time, one's own and the children's.
    """
    ticks = 0
    for pid in set().union(*(family(pid) for pid in pids)):
        with suppress(OSError):
            values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, values[11:15]))
    return ticks / _TICKS


class PeakMemory:
    """Looks at a family of processes now and then, and keeps what each had at most.

    The kernel counts a process's peak itself (`VmHWM` of proc(5)'s `status`), so only what is
    used after the last look is missed. Pages that processes share count in each of them.
    """

    def __init__(self, pid: int, seconds: float = 0.5) -> None:
        self._pid, self._seconds = pid, seconds
        self._peaks: dict[int, tuple[str, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def mib(self) -> dict[str, float]:
        """Highest resident MiB by kind of process; of several of one kind the largest."""
        kinds: dict[str, float] = {}
        for kind, peak in self._peaks.values():
            kinds[kind] = max(round(peak, 1), kinds.get(kind, 0.0))
        return dict(sorted(kinds.items()))

    def _look(self) -> None:
        while not self._ended.wait(self._seconds):
            for pid in family(self._pid):
                with suppress(OSError, StopIteration):
                    self._note(pid)

    def _note(self, pid: int) -> None:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        self._peaks[pid] = kind_of(command), kib / 1024


def kind_of(command: str) -> str:
    """What a process is to us, by its command line."""
    return next((kind for part, kind in _KINDS if part in command), "other")
