"""How vLLM is started for one checkpoint: its command line and its environment. Starts nothing."""

from __future__ import annotations

import ctypes.util
import json
import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.guidance_request import LOGITS_PROCESSOR
from llmcxr_models.hardware import cpu_has_bf16
from llmcxr_models.idle_threads import wait_briefly
from llmcxr_service.vllm_launcher import END_WITH_STDIN

GIB = 1024**3
HOST = "127.0.0.1"
COMPILERS = ("g++", "clang++")
GPU_MEMORY_SHARE = 0.8
"""vLLM's share of a GPU; the rest is for the VQ-GAN beside it."""
CPU_BATCHED_TOKENS = 4096
"""Tokens of prompts that a CPU reads in one step."""
CPU_BLOCK_TOKENS = 32
"""Tokens of a block of the key-value cache on a CPU. Beside vLLM's own 128 it made no difference
that two runs agree on (docs/benchmarks, "What was tuned")."""
SMALL_HOST_CORES = 8
"""Up to here vLLM's own thread binding, which sets cores aside, costs more than it brings."""


@dataclass(frozen=True)
class VllmOptions:
    """How a vLLM of our own runs.

    Attributes:
        dtype: weights' type; `auto` is bfloat16 where the hardware has it, else float32.
        eager: no compilation: ready sooner, slower afterwards.
        kv_cache_gib: key-value cache, GiB; None is room for `max_num_seqs` whole sequences.
        max_num_seqs: sequences that it works on at once.
        start_timeout_seconds: a start that takes longer has failed.
        log_directory: where its log goes; None is the user's state directory.
    """

    dtype: str = "auto"
    eager: bool = False
    kv_cache_gib: float | None = None
    max_num_seqs: int = 32
    start_timeout_seconds: float = 900.0
    log_directory: Path | None = None


def vllm_command(checkpoint: Checkpoint, options: VllmOptions, port: int) -> list[str]:
    """The command line. The key is not in it: a process list shows it to everybody."""
    launcher = [sys.executable, "-m", "llmcxr_service.vllm_launcher", END_WITH_STDIN]
    return [*launcher, "serve", *vllm_arguments(checkpoint, options, HOST, port)]


def vllm_arguments(checkpoint: Checkpoint, options: VllmOptions, host: str, port: int) -> list[str]:
    """What follows `vllm serve`, for the hardware of this host."""
    manifest = checkpoint.manifest
    has_gpu = torch.cuda.is_available()
    dtype = resolve_dtype(options.dtype, has_gpu=has_gpu)
    arguments = [str(checkpoint.llm_path.resolve()), "--host", host, "--port", str(port)]
    arguments += ["--served-model-name", manifest.served_name]
    arguments += ["--max-model-len", str(manifest.max_model_len)]
    arguments += ["--max-num-seqs", str(options.max_num_seqs), "--dtype", dtype]
    arguments += ["--enable-prefix-caching", "--disable-uvicorn-access-log"]
    # The prompt and its constraint say everything; a generation_config.json would only add to it.
    arguments += ["--generation-config", "vllm", "--disable-fastapi-docs"]
    if manifest.guidance is not None:
        arguments += ["--logits-processors", LOGITS_PROCESSOR]
    if options.eager or not (has_gpu or find_compiler()):
        arguments.append("--enforce-eager")
    if options.kv_cache_gib is not None or not has_gpu:
        arguments += ["--kv-cache-memory-bytes", str(kv_cache_bytes(checkpoint, options, dtype))]
    if has_gpu:
        arguments += ["--gpu-memory-utilization", str(GPU_MEMORY_SHARE)]
    else:
        # vLLM 0.32 on a CPU: a seeded request whose prompt is read in two chunks takes the whole
        # engine down ("CPU Generator does not use offset"). So a prompt is read at once.
        longest = max(CPU_BATCHED_TOKENS, manifest.max_model_len)
        arguments += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(longest)]
        arguments += ["--block-size", str(CPU_BLOCK_TOKENS)]
    return arguments


def find_compiler() -> str | None:
    """The C++ compiler without which vLLM cannot compile a model for a CPU."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def vllm_environment(api_key: str | None) -> dict[str, str]:
    """Our own environment without our settings, and what vLLM needs."""
    # Inherited, not read: PATH, HOME, CUDA_VISIBLE_DEVICES and the like are the operator's.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")}
    if api_key is not None:
        environment["VLLM_API_KEY"] = api_key
    cores = len(os.sched_getaffinity(0))
    if cores <= SMALL_HOST_CORES:
        # "auto" keeps one core of each for the scheduler and binds one thread to each physical
        # core: on two cores that leaves one to compute.
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        # Threads that spin for long take the cores from the threads that they wait for: measured
        # beside other work on two cores, 18 tokens a second instead of 2.
        wait_briefly(environment)
        if not torch.cuda.is_available():
            # The engine's process does the work itself. Else it has a worker process, and each
            # waits for the other in a loop that takes a whole core ("SpinCondition"). vLLM asks
            # for the worker only to bind threads, which "nobind" does without.
            environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    if not (torch.cuda.is_available() or find_compiler()):
        # --enforce-eager leaves some of vLLM's own functions to torch.compile, and the engine dies
        # of the first of them.
        environment.setdefault("TORCH_COMPILE_DISABLE", "1")
    allocator = ctypes.util.find_library("tcmalloc_minimal")
    if allocator and "tcmalloc" not in environment.get("LD_PRELOAD", ""):
        preloaded = environment.get("LD_PRELOAD", "")
        environment["LD_PRELOAD"] = ":".join(filter(None, (allocator, preloaded)))
    return environment


def resolve_dtype(name: str, *, has_gpu: bool) -> str:
    """`auto` is bfloat16 on a GPU or a processor with bfloat16 products, else float32."""
    if name != "auto":
        return name
    return "bfloat16" if has_gpu or cpu_has_bf16() else "float32"


def kv_bytes_per_token(config: dict[str, Any], dtype: str) -> int:
    """Bytes of keys and values that one token keeps, from a model's `config.json`."""
    heads = int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    return 2 * int(config["num_hidden_layers"]) * kv_heads * head_dim * _bytes_of(dtype)


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that a new process may use without swapping."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{meminfo} names no MemAvailable")


def kv_cache_bytes(checkpoint: Checkpoint, options: VllmOptions, dtype: str) -> int:
    """Bytes for vLLM's key-value cache: as set, or room for all sequences at full length.

    Raises:
        InvalidCheckpoint: the model's `config.json` does not say how wide it is.
    """
    if options.kv_cache_gib is not None:
        return int(options.kv_cache_gib * GIB)
    try:
        config = json.loads((checkpoint.llm_path / "config.json").read_text(encoding="utf-8"))
        per_token = kv_bytes_per_token(config, dtype)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidCheckpoint("llm/config.json does not describe a language model.") from error
    tokens = checkpoint.manifest.max_model_len * options.max_num_seqs
    # vLLM's own default on a CPU is 92 % of the memory, which fails beside anything else.
    wanted = math.ceil(per_token * tokens * 1.1)
    return max(GIB // 4, min(wanted, available_memory() // 2))


def _bytes_of(dtype: str) -> int:
    return 4 if dtype == "float32" else 2
