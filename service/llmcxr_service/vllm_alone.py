"""`llmcxr vllm`: a vLLM for the checkpoint, apart from the gateway: another container or host."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_command import vllm_arguments, vllm_environment
from llmcxr_service.vllm_settings import vllm_options

_LAUNCHER = ("-m", "llmcxr_service.vllm_launcher", "serve")


def exec_vllm(settings: Settings, host: str, port: int) -> NoReturn:
    """Become vLLM.

    Raises:
        CheckpointError: there is nothing to serve.
    """
    arguments = _arguments(settings, host, port)
    key = settings.vllm_api_key
    environment = vllm_environment(key.get_secret_value() if key else None)
    command = [sys.executable, *_LAUNCHER, *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter


def show_command(settings: Settings, host: str, port: int) -> str:
    """The same for an ordinary vLLM, as a line for a shell; the key is not in it."""
    return shlex.join(["vllm", "serve", *_arguments(settings, host, port)])


def write_config(settings: Settings, host: str, port: int, target: Path) -> None:
    """Write the same as the YAML that `vllm serve --config` reads, but for dtype and device.

    The file is for another host, whose hardware vLLM sees better than we do from here.
    """
    checkpoint = Checkpoint.open(settings.checkpoint, verify=False)
    values = {
        "host": host,
        "port": port,
        "served-model-name": checkpoint.manifest.served_name,
        "max-model-len": checkpoint.manifest.max_model_len,
        "max-num-seqs": settings.vllm_max_num_seqs,
        "enable-prefix-caching": True,
        "disable-uvicorn-access-log": True,
        "disable-fastapi-docs": True,
        "generation-config": "vllm",
    }
    # Every JSON scalar is one in YAML, quoted where it must be.
    lines = [f"{name}: {json.dumps(value)}" for name, value in values.items()]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _arguments(settings: Settings, host: str, port: int) -> list[str]:
    options = vllm_options(settings)
    return vllm_arguments(Checkpoint.open(settings.checkpoint), options, host, port)
