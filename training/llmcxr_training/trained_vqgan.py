"""What a VQ-GAN run leaves for the stages after it, and whether two of them make the same codes.

Codes depend on encoder and codebook alone. In a run with `freeze_codes_at` these stand still
while the decoder learns on for hours; fine-tuning starts on the codes of then, and whatever
decoder is the newest when a checkpoint is published goes into it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from llmcxr_models.checkpoint import VQGAN_WEIGHTS, Checkpoint
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.vqgan import VqGan, VqGanConfig
from llmcxr_training.data import DataError
from llmcxr_training.run_state import load_state, save_weights, write_json

_log = logging.getLogger(__name__)

VQGAN_JSON = "vqgan.json"

_DECODER = ("decoder.", "post_quant_conv.")
"""Weights that no code depends on."""


@dataclass(frozen=True)
class TrainedVqGan:
    """A VQ-GAN run's result.

    Attributes:
        vqgan: with its weights.
        preprocessing: what it was trained on.
        code_digest: SHA-256 (hex) of all that decides which codes a radiograph becomes.
    """

    vqgan: VqGan
    preprocessing: Preprocessing
    code_digest: str

    @classmethod
    def load(cls, folder: Path) -> TrainedVqGan:
        """Read `vqgan.json` and `vqgan.safetensors` of a run folder.

        The export is brought up to date first where the run is frozen and has gone on since.

        Raises:
            DataError: the run is neither finished nor frozen.
        """
        _catch_up(folder)
        if not (folder / VQGAN_WEIGHTS).is_file():
            raise DataError(f"the VQ-GAN run {folder} is neither finished nor frozen")
        described = json.loads((folder / VQGAN_JSON).read_text())
        vqgan = VqGan(VqGanConfig.from_dict(described["vqgan"]))
        vqgan.load_state_dict(load_file(folder / VQGAN_WEIGHTS))
        names = described["preprocessing"]
        preprocessing = Preprocessing(
            Pipeline(names["pipeline"]),
            Geometry(names["geometry"]),
            vqgan.config.image_size,
            vqgan.config.image_channels,
        )
        digest = _code_digest(vqgan, names)
        return cls(vqgan.eval(), preprocessing, digest)

    @classmethod
    def of_release(cls, folder: Path) -> TrainedVqGan:
        """That of a release or a checkpoint directory, described in its manifest.

        Raises:
            InvalidCheckpoint: manifest or weights are missing, damaged or do not fit.
        """
        released = Checkpoint.open(folder, verify=False)
        vqgan, preprocessing = released.load_vqgan(), released.manifest.preprocessing
        names = {"pipeline": preprocessing.pipeline.value, "geometry": preprocessing.geometry.value}
        return cls(vqgan.eval(), preprocessing, _code_digest(vqgan, names))


def export_vqgan(
    folder: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]
) -> Path:
    """Write `weights` and what they are; atomically, another process may be reading them.

    Returns:
        Where the weights are.
    """
    path = folder / VQGAN_WEIGHTS
    save_weights(path, {k: v.detach().cpu().contiguous() for k, v in weights.items()})
    write_json(folder / VQGAN_JSON, description)
    return path


def export_state(folder: Path) -> Path:
    """Export the averaged weights of a run whose codes are frozen from its state.

    Raises:
        DataError: no VQ-GAN run, or its codes are not frozen yet.
    """
    state = load_state(folder)
    if state is None or "average" not in state or not state["frozen"]:
        raise DataError(f"{folder} holds no state of a VQ-GAN run whose codes are frozen")
    return _export(folder, state)


def _export(folder: Path, state: Mapping[str, Any]) -> Path:
    """The settings are read as plain JSON: those of another version do as well."""
    config = json.loads((folder / "config.json").read_text())
    described = {
        "vqgan": VqGanConfig.from_dict(config["architecture"]).to_dict(),
        "preprocessing": {name: config[name] for name in ("pipeline", "geometry")},
        "steps": state["step"],
        "images_seen": state["step"] * config["batch_size"],
        "wall_seconds": round(state["seconds"]),
        "seed": config["seed"],
        "git": json.loads((folder / "git.json").read_text()),
    }
    return export_vqgan(folder, state["average"], described)


def _catch_up(folder: Path) -> None:
    """Export a frozen run's state where it is newer than what was exported."""
    state = load_state(folder)
    if state is None or not state.get("frozen"):
        return
    path = folder / VQGAN_JSON
    exported = json.loads(path.read_text())["steps"] if path.is_file() else -1
    if state["step"] > exported:
        _log.info("exporting the VQ-GAN of step %d, whose codes are frozen", state["step"])
        _export(folder, state)


def _code_digest(vqgan: VqGan, preprocessing: Mapping[str, str]) -> str:
    of_the_decoder = ("upsampling", "decoder_noise")
    architecture = {k: v for k, v in vqgan.config.to_dict().items() if k not in of_the_decoder}
    digest = hashlib.sha256(json.dumps([architecture, preprocessing], sort_keys=True).encode())
    for name, tensor in sorted(vqgan.state_dict().items()):
        if not name.startswith(_DECODER):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
