"""Other feature spaces than the judge's for distances between sets of images. By path only.

The published distances of radiographs are in the spaces of TorchXRayVision's DenseNet-121 (Cohen
et al., arXiv 2111.00595) and of RAD-DINO (Pérez-García et al., arXiv 2401.10815).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from llmcxr_models.checkpoint import sha256
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_training.evaluation.settings import ExtractorSettings
from llmcxr_training.feature_networks import XrvFeatures, load_xrv


class Extractor(Protocol):
    """Turns images into vectors.

    Attributes:
        name: as it stands in keys.
        digest: of its weights.
    """

    name: str
    digest: str

    def features(self, pixels: Tensor) -> Tensor:
        """Vectors (B, D) of pixels (B, 1|3, S, S) in [-1, 1]."""
        ...


def load_extractor(settings: ExtractorSettings, device: torch.device) -> Extractor | None:
    """The extractor that is asked for; None for no other than the judge.

    Raises:
        InvalidCheckpoint: its files are missing, damaged or of another kind, or its package is
            not installed.
    """
    if settings.path is None:
        return None
    if not settings.path.exists():
        raise InvalidCheckpoint("there is nothing at the extractor's path.")
    if settings.kind == "xrv":
        return _Xrv(load_xrv(settings.path).to(device), sha256(settings.path))
    return _RadDino(settings.path, device)


class _Xrv:
    name = "xrv"

    def __init__(self, network: XrvFeatures, digest: str) -> None:
        self._network = network
        self.digest = digest

    def features(self, pixels: Tensor) -> Tensor:
        return self._network.vector(pixels)


class _RadDino:
    """A DINOv2: the class token after the last normalisation."""

    name = "rad_dino"

    def __init__(self, folder: Path, device: torch.device) -> None:
        try:
            how = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
            self._side = int(how["crop_size"]["height"])
            self._mean, self._deviation = (
                torch.tensor(how[name], device=device).view(1, 3, 1, 1)
                for name in ("image_mean", "image_std")
            )
            model: nn.Module = AutoModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32
            )
            weights = sorted(folder.glob("*.safetensors"))
            self.digest = "".join(sha256(path) for path in weights)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise InvalidCheckpoint("the extractor's files are missing or damaged.") from error
        if not weights or getattr(model.config, "model_type", None) != "dinov2":
            raise InvalidCheckpoint("the extractor is no DINOv2 with safetensors.")
        self._model = nn.Module.to(model, device).eval().requires_grad_(False)

    def features(self, pixels: Tensor) -> Tensor:
        # Its processor scales the shorter side and crops the middle: of a square, all of it.
        side = (self._side, self._side)
        x = F.interpolate(pixels.float(), side, mode="bicubic", antialias=True, align_corners=False)
        x = x.clamp(-1.0, 1.0).add(1.0).div(2.0).expand(-1, 3, -1, -1)
        vectors: Tensor = self._model(pixel_values=(x - self._mean) / self._deviation).pooler_output
        return vectors
