"""`llmcxr vllm`: a vLLM for the checkpoint, apart from the gateway: another container or host."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import llmcxr_models
from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.guidance_request import LOGITS_PROCESSOR
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_command import vllm_arguments, vllm_environment
from llmcxr_service.vllm_settings import vllm_options

_GUIDANCE_MODULES = (
    "__init__.py",
    "finding_tilt.py",
    "guidance_request.py",
    "vllm_guidance.py",
)
"""What vLLM imports of ours where a checkpoint guides its drawing."""

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

    The file is for another host, whose hardware vLLM sees better than we do from here. Where the
    checkpoint guides its drawing, the modules that vLLM imports for it are laid beside the file:
    its folder has to be in that host's PYTHONPATH.
    """
    checkpoint = Checkpoint.open(settings.checkpoint, verify=False)
    values: dict[str, object] = {
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
    if checkpoint.manifest.guidance is not None:
        values["logits-processors"] = [LOGITS_PROCESSOR]
        ours = Path(llmcxr_models.__file__).parent
        (target.parent / ours.name).mkdir(exist_ok=True)
        for module in _GUIDANCE_MODULES:
            shutil.copyfile(ours / module, target.parent / ours.name / module)
    # JSON is YAML, quoted where it must be.
    lines = [f"{name}: {json.dumps(value)}" for name, value in values.items()]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _arguments(settings: Settings, host: str, port: int) -> list[str]:
    options = vllm_options(settings)
    return vllm_arguments(Checkpoint.open(settings.checkpoint), options, host, port)
