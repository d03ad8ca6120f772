"""What is right and wrong with an installation, in sentences. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx
import torch

from llmcxr_models.checkpoint import Checkpoint, read_manifest
from llmcxr_models.errors import CheckpointError, CxrError
from llmcxr_models.vllm_distribution import vllm_version
from llmcxr_service.access.opening import open_door, warn_of_access
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_command import (
    GIB,
    available_memory,
    find_compiler,
    kv_cache_bytes,
    resolve_dtype,
)
from llmcxr_service.vllm_process import state_directory
from llmcxr_service.vllm_settings import vllm_options

OLDEST_PYTHON = (3, 11)
LAUNCH_SECONDS = 120.0
WORKING_BYTES = 2 * GIB
"""What vLLM and the gateway take beside weights and cache."""
DISK_BYTES = GIB


class Level(StrEnum):
    """How bad it is."""

    GOOD = "good"
    DOUBT = "doubt"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: how bad it is.
        sentence: what was found and, where it is wrong, what to do.
    """

    level: Level
    sentence: str


def check_installation(settings: Settings) -> Iterator[Finding]:
    """Look at everything that the service needs, one after the other."""
    looks: tuple[Callable[[Settings], Finding], ...] = (
        check_python,
        check_torch,
        check_torchvision,
        check_checkpoint,
        check_compiler,
        check_vllm if settings.vllm_url is None else check_vllm_url,
        check_memory,
        check_disk,
        check_port,
        check_dicom,
        check_callers,
    )
    for look in looks:
        yield look(settings)


def check_dicom(settings: Settings) -> Finding:
    """Whether rules, destinations, archives and certificates for receiving can be used."""
    if not (settings.dicom_rules or settings.dicom_sources or settings.dicom_port is not None):
        return Finding(Level.GOOD, "Receiving DICOM is not set up.")
    from llmcxr_service.deliveries.outcome import DestinationsError
    from llmcxr_service.intake_dicom.listening import check_receiving

    try:
        check_receiving(settings)
    except (CxrError, DestinationsError) as error:
        return Finding(Level.WRONG, str(error))
    return Finding(Level.GOOD, "Rules and archives for receiving DICOM can be used.")


def check_callers(settings: Settings) -> Finding:
    """Whether callers have to say who they are, and can."""
    try:
        open_door(settings)
        doubts = warn_of_access(settings)
    except CxrError as error:
        return Finding(Level.WRONG, str(error))
    if doubts:
        return Finding(Level.DOUBT, " ".join(doubts))
    return Finding(Level.GOOD, "Callers have to say who they are.")


def check_python(_: Settings) -> Finding:
    """Whether this Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding(Level.WRONG, f"Python {version} is too old; 3.11 or newer is needed.")
    return Finding(Level.GOOD, f"Python {version}.")


def check_torch(settings: Settings) -> Finding:
    """Which build of torch is there, and whether it can use the device that is asked for."""
    version = torch.__version__
    if torch.cuda.is_available():
        return Finding(Level.GOOD, f"torch {version} sees {torch.cuda.device_count()} GPU(s).")
    if settings.device.startswith("cuda"):
        return Finding(
            Level.WRONG,
            f"LLMCXR_DEVICE asks for {settings.device}, but torch {version} sees no GPU."
            " Check the driver, and that set-up ran with DEVICE=cuda.",
        )
    return Finding(Level.GOOD, f"torch {version}, on the CPU.")


def check_torchvision(_: Settings) -> Finding:
    """Whether a torchvision of another build lies beside torch."""
    with suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("torchvision")
        if torch.version.cuda is None and not version.endswith("+cpu"):
            return Finding(
                Level.WRONG,
                f"torchvision {version} is a build for CUDA beside torch for the CPU; vLLM cannot"
                " start with it. Remove it: `pip uninstall torchvision torchaudio torchcodec`.",
            )
    return Finding(Level.GOOD, "No torchvision of another build stands in vLLM's way.")


def check_checkpoint(settings: Settings) -> Finding:
    """Whether the checkpoint is there and its digests are right."""
    try:
        manifest = Checkpoint.open(settings.checkpoint).manifest
    except CheckpointError as error:
        return Finding(
            Level.WRONG,
            f"The checkpoint {settings.checkpoint} cannot be used: {error}"
            " `make setup` makes the demo checkpoint; LLMCXR_CHECKPOINT names another.",
        )
    return Finding(
        Level.GOOD,
        f"Checkpoint {manifest.name} {manifest.version} ({manifest.digest[:12]}):"
        f" {len(manifest.files)} files with the right digests.",
    )


def check_compiler(settings: Settings) -> Finding:
    """Whether vLLM can compile the model, which makes it about a quarter faster on a CPU."""
    if settings.vllm_url is not None or torch.cuda.is_available() or settings.vllm_eager:
        return Finding(Level.GOOD, "No C++ compiler is needed.")
    compiler = find_compiler()
    if compiler is None:
        return Finding(
            Level.DOUBT, "There is no C++ compiler; vLLM runs without compilation, and slower."
        )
    return Finding(Level.GOOD, f"vLLM can compile with {compiler}.")


def check_vllm(_: Settings) -> Finding:
    """Whether a vLLM is installed that starts as far as its command line."""
    version = vllm_version()
    if version is None:
        return Finding(
            Level.WRONG,
            "vLLM is not installed. Run `make setup`, or name a running server by LLMCXR_VLLM_URL.",
        )
    command = [sys.executable, "-m", "llmcxr_service.vllm_launcher", "--version"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
            command, capture_output=True, text=True, timeout=LAUNCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(Level.WRONG, f"vLLM {version} did not start within {LAUNCH_SECONDS:.0f} s.")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Finding(Level.WRONG, f"vLLM {version} does not start: {last}")
    return Finding(Level.GOOD, f"vLLM {version} can be started.")


def check_vllm_url(settings: Settings) -> Finding:
    """Whether the vLLM servers that are named answer and serve this checkpoint."""
    findings = [_check_one_vllm(settings, url) for url in settings.vllm_urls]
    return next((f for f in findings if f.level is not Level.GOOD), findings[0])


def _check_one_vllm(settings: Settings, url: str) -> Finding:
    key = settings.vllm_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    try:
        response = httpx.get(f"{url}/v1/models", headers=headers, timeout=10.0, trust_env=False)
        response.raise_for_status()
        served = {model["id"]: model for model in response.json()["data"]}
        manifest = read_manifest(settings.checkpoint)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        hint = " Its key is LLMCXR_VLLM_API_KEY." if status == httpx.codes.UNAUTHORIZED else ""
        return Finding(Level.WRONG, f"vLLM at LLMCXR_VLLM_URL answers with {status}.{hint}")
    except (httpx.HTTPError, httpx.InvalidURL):
        return Finding(Level.WRONG, "Nothing answers at LLMCXR_VLLM_URL.")
    except (ValueError, KeyError, TypeError):
        return Finding(Level.WRONG, "What answers at LLMCXR_VLLM_URL is no vLLM.")
    except CheckpointError:
        return Finding(Level.DOUBT, "vLLM answers; without a checkpoint it cannot be compared.")
    if manifest.served_name not in served:
        return Finding(
            Level.WRONG,
            "vLLM at LLMCXR_VLLM_URL serves another model. Start it with"
            f" --served-model-name {manifest.served_name}",
        )
    if (served[manifest.served_name].get("max_model_len") or 0) < manifest.max_model_len:
        return Finding(
            Level.WRONG, f"vLLM must be started with --max-model-len {manifest.max_model_len}."
        )
    return Finding(Level.GOOD, f"vLLM at LLMCXR_VLLM_URL serves {manifest.served_name}.")


def check_memory(settings: Settings) -> Finding:
    """Whether weights, cache and the rest fit into the memory that is free now."""
    try:
        checkpoint = Checkpoint.open(settings.checkpoint, verify=False)
        options = vllm_options(settings)
        dtype = resolve_dtype(settings.vllm_dtype, has_gpu=torch.cuda.is_available())
        cache = kv_cache_bytes(checkpoint, options, dtype)
        free = available_memory()
    except (CheckpointError, OSError):
        return Finding(Level.DOUBT, "How much memory is needed cannot be told.")
    weights = sum(file.stat().st_size for file in checkpoint.path.rglob("*.safetensors"))
    own = settings.vllm_url is None and not torch.cuda.is_available()
    need = weights + (cache if own else 0) + WORKING_BYTES
    if free < need:
        return Finding(
            Level.DOUBT,
            f"{free / GIB:.1f} GiB of memory are free, about {need / GIB:.1f} will be used."
            " LLMCXR_VLLM_KV_CACHE_GIB and LLMCXR_VLLM_MAX_NUM_SEQS make it less.",
        )
    return Finding(
        Level.GOOD, f"{free / GIB:.1f} GiB of memory are free, about {need / GIB:.1f} will be used."
    )


def check_disk(_: Settings) -> Finding:
    """Whether vLLM can write its log and its compilation cache."""
    directory = _existing(state_directory())
    free = shutil.disk_usage(directory).free
    if free < DISK_BYTES:
        return Finding(
            Level.WRONG, f"Only {free / GIB:.1f} GiB are free on the disk of {directory}."
        )
    return Finding(Level.GOOD, f"{free / GIB:.1f} GiB are free on the disk of {directory}.")


def check_port(settings: Settings) -> Finding:
    """Whether the service can listen where it should."""
    where = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        # As uvicorn does it: a connection that is just closing does not block a restart.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError:
            return Finding(
                Level.DOUBT,
                f"{where} is taken: the service runs already, or LLMCXR_PORT must name another.",
            )
    return Finding(Level.GOOD, f"{where} is free.")


def _existing(directory: Path) -> Path:
    while not directory.exists():
        directory = directory.parent
    return directory
