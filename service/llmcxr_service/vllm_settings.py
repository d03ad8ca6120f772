"""Settings -> how a vLLM of our own runs; one place for all that start, show or check one."""

from __future__ import annotations

from llmcxr_service.settings import Settings
from llmcxr_service.vllm_command import VllmOptions


def vllm_options(settings: Settings) -> VllmOptions:
    """The options that the settings give."""
    return VllmOptions(
        dtype=settings.vllm_dtype,
        eager=settings.vllm_eager,
        kv_cache_gib=settings.vllm_kv_cache_gib,
        max_num_seqs=settings.vllm_max_num_seqs,
        start_timeout_seconds=settings.vllm_start_timeout_seconds,
    )
