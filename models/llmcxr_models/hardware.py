"""What the processor can do. Knows neither settings nor models."""

from __future__ import annotations

from pathlib import Path

BF16_CPU_FLAGS = ("amx_bf16", "avx512_bf16")
"""Processor flags without which bfloat16 on a CPU is slower than float32."""


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has bfloat16 dot products."""
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return False
    return any(flag in words for flag in BF16_CPU_FLAGS)
