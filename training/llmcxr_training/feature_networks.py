"""Frozen networks whose features say how alike two radiographs are.

Our own judge is a folder; a TorchXRayVision DenseNet is a file of weights. Neither is fetched.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.judge import Judge

XRV_SIDE = 224
"""Side of the pictures that the published DenseNets were trained on, pixels."""

XRV_RANGE = 1024.0
"""They see intensities in [-XRV_RANGE, XRV_RANGE]."""

_XRV_MAPS = ("pool0", "denseblock1", "denseblock2", "denseblock3", "denseblock4")


_XRV_CLASSES = ("DenseNet", "_DenseLayer", "_DenseBlock", "_Transition")
_TORCH_CLASSES: tuple[Any, ...] = (
    OrderedDict,
    set,
    nn.Sequential,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Linear,
)


class FeatureNetwork(Protocol):
    """What the perceptual and the clinical term ask of a network."""

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps (B, C_i, h_i, w_i), shallow to deep, of pixels (B, 1|3, S, S) in [-1, 1].

        Differentiable to the pixels.
        """
        ...


class XrvFeatures(nn.Module):
    """Feature maps of a TorchXRayVision DenseNet (Cohen et al., arXiv 2111.00595).

    Args:
        densenet: its convolutions are `densenet.features`; in evaluation mode, frozen.
    """

    def __init__(self, densenet: nn.Module) -> None:
        super().__init__()
        features = getattr(densenet, "features", None)
        if not isinstance(features, nn.Sequential):
            raise InvalidCheckpoint("the feature network is no DenseNet.")
        self.features = features
        self.eval().requires_grad_(False)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """See `FeatureNetwork`."""
        x = _seen_by_xrv(pixels)
        maps = []
        for name, layer in self.features.named_children():
            x = layer(x)
            if name in _XRV_MAPS:
                maps.append(x)
        return maps

    def vector(self, pixels: Tensor) -> Tensor:
        """The vector (B, D) that the classifier reads: rectified means of the last map."""
        return F.relu(self.features(_seen_by_xrv(pixels))).mean(dim=(-2, -1))


def _seen_by_xrv(pixels: Tensor) -> Tensor:
    x = pixels.float().mean(dim=1, keepdim=True)
    size = (XRV_SIDE, XRV_SIDE)
    x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    return x * XRV_RANGE


def load_feature_network(path: Path, device: torch.device) -> FeatureNetwork:
    """A judge's folder, or a file with a TorchXRayVision DenseNet-121's weights.

    Raises:
        InvalidCheckpoint: missing, damaged, or the torchxrayvision package is not installed.
    """
    if path.is_dir():
        return Judge.load(path).to(device)
    return load_xrv(path).to(device)


def load_xrv(path: Path) -> XrvFeatures:
    """A file with a TorchXRayVision DenseNet-121's weights.

    Raises:
        InvalidCheckpoint: missing, damaged, or the torchxrayvision package is not installed.
    """
    return XrvFeatures(_load_densenet(path))


def _load_densenet(path: Path) -> nn.Module:
    try:
        models = importlib.import_module("torchxrayvision.models")
    except ImportError as error:
        raise InvalidCheckpoint(
            "these weights need the torchxrayvision package, which is not installed."
        ) from error
    try:
        densenet: nn.Module = models.DenseNet(num_classes=18, in_channels=1)
        densenet.load_state_dict(_read_weights(path, models))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise InvalidCheckpoint("the feature network's weights do not fit.") from error
    return densenet


def _read_weights(path: Path, models: ModuleType) -> dict[str, Tensor]:
    """The published files are pickled modules; no class but those of a DenseNet is built."""
    if path.suffix == ".safetensors":
        return load_file(path)
    with torch.serialization.safe_globals(_densenet_classes(models)):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            # An unpickler stumbles over damage in more ways than it documents.
            raise ValueError("unreadable") from error
    weights: dict[str, Tensor] = saved.state_dict() if isinstance(saved, nn.Module) else saved
    return weights


def _densenet_classes(models: ModuleType) -> list[Any]:
    own = [getattr(models, name, None) for name in _XRV_CLASSES]
    return [*filter(None, own), *_TORCH_CLASSES]
