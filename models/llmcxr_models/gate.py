"""Is this a frontal chest radiograph at all? A small network on model pixels, and its verdict.

It knows nothing of headers (`dicom_gates` does) and nothing of findings. Its weights and
thresholds are part of the checkpoint, because they depend on the preprocessing; a checkpoint
may be without.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmcxr_models.errors import InvalidCheckpoint, UnsupportedRadiograph
from llmcxr_models.stored_weights import with_weights

GATE_WEIGHTS = "gate.safetensors"


class Look(StrEnum):
    """What a picture looks like; the order is that of the network's outputs."""

    FRONTAL = "frontal"
    LATERAL = "lateral"
    INVERTED = "inverted"
    TURNED = "turned"
    OTHER = "other"


_LOOKS = tuple(Look)
_CHEST = [_LOOKS.index(Look.FRONTAL), _LOOKS.index(Look.LATERAL)]

_REFUSALS = {
    Look.INVERTED: ("The picture looks like the negative of a chest radiograph.", "inverted"),
    Look.TURNED: ("The picture looks like a chest radiograph that is not upright.", "turned"),
    Look.OTHER: ("The picture does not look like a chest radiograph.", "no-chest-radiograph"),
}
_LEAST_SPREAD = 0.02
"""Added to the spread of a picture, so that a flat field's rounding is not blown up."""
_DOUBTS = {
    Look.INVERTED: "By its pixels, the picture may be the negative of a chest radiograph.",
    Look.TURNED: "By its pixels, the picture may be a chest radiograph that is not upright.",
    Look.OTHER: "By its pixels, it is doubtful that this is a chest radiograph.",
}
LATERAL_BY_PIXELS = (
    "By its pixels, this looks like a lateral view; the model has seen frontal views only."
)


@dataclass(frozen=True)
class GateConfig:
    """Geometry and thresholds of a gate; part of the checkpoint's manifest.

    Attributes:
        input_size: side to which model pixels are scaled before they are looked at.
        widths: channels of each level; every level halves the side.
        norm_groups: groups of every group normalisation.
        refuse_below: probability of a chest (frontal or lateral) below which it is refused.
        doubt_below: below which the answer carries a warning.
        lateral_above: probability of a lateral from which on the answer carries a warning.
    """

    input_size: int = 64
    widths: tuple[int, ...] = (16, 32, 64, 96)
    norm_groups: int = 8
    refuse_below: float = 0.05
    doubt_below: float = 0.5
    lateral_above: float = 0.5

    def __post_init__(self) -> None:
        if not self.widths or any(width % self.norm_groups for width in self.widths):
            raise InvalidCheckpoint("the gate's norm_groups must divide its widths.")
        if not 0.0 <= self.refuse_below <= self.doubt_below <= 1.0:
            raise InvalidCheckpoint("the gate's thresholds are not in order.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GateConfig:
        """Read what `to_dict` gave.

        Raises:
            InvalidCheckpoint: a key is missing, unknown, or of another type.
        """
        try:
            return cls(**values | {"widths": tuple(values["widths"])})
        except (KeyError, TypeError) as error:
            raise InvalidCheckpoint("the gate's description has other keys.") from error

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the inverse of `from_dict`."""
        return asdict(self) | {"widths": list(self.widths)}


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one picture.

    Attributes:
        look: what it most looks like.
        refused: it is certainly no upright chest radiograph.
        doubtful: it may be none.
        lateral: it looks like a lateral view.
    """

    look: Look
    refused: bool = False
    doubtful: bool = False
    lateral: bool = False

    def require_chest(self) -> None:
        """Stop what is certainly no chest radiograph.

        Raises:
            UnsupportedRadiograph: `no-chest-radiograph`, `inverted` or `turned`.
        """
        if self.refused:
            message, reason = _REFUSALS[self.look]
            raise UnsupportedRadiograph(message, reason=reason)

    def warnings(self, *, lateral_is_fine: bool = False) -> tuple[str, ...]:
        """Doubts, as sentences for the reader of the answer."""
        doubts = (_DOUBTS[self.look],) if self.doubtful or self.refused else ()
        return doubts + ((LATERAL_BY_PIXELS,) if self.lateral and not lateral_is_fine else ())


class Gate(nn.Module):
    """Model pixels (B, C, S, S) in [-1, 1] -> logits (B, 5), in the order of `Look`."""

    def __init__(self, config: GateConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList()
        width = 3
        for out_channels in config.widths:
            self.levels.append(_level(width, out_channels, config.norm_groups))
            width = out_channels
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width, len(_LOOKS))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, float32."""
        x = _with_coordinates(_standardised(_scaled(pixels, self.config.input_size)))
        for level in self.levels:
            x = level(x)
        pooled = torch.cat([x.mean(dim=(-2, -1)), x.amax(dim=(-2, -1))], dim=1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits.float()

    @torch.no_grad()
    def probabilities(self, pixels: Tensor, *, batch_size: int = 64) -> Tensor:
        """Probabilities (B, 5) of each look, on the CPU."""
        return torch.cat([self(part).softmax(dim=1).cpu() for part in pixels.split(batch_size)])

    def examine(self, pixels: Tensor) -> Verdict:
        """The verdict on one picture (C, S, S)."""
        return judge(self.probabilities(pixels[None])[0], self.config)

    @classmethod
    def load(cls, path: Path, config: GateConfig) -> Gate:
        """Read weights; in evaluation mode.

        Raises:
            InvalidCheckpoint: the file is missing, damaged or of another shape.
        """
        gate = with_weights(cls(config), path, f"{GATE_WEIGHTS} does not fit the manifest.")
        return gate.eval().requires_grad_(False)


def judge(probabilities: Tensor, config: GateConfig) -> Verdict:
    """Apply the thresholds to the probabilities (5) of one picture."""
    chest = float(probabilities[_CHEST].sum())
    others = probabilities.clone()
    others[_CHEST] = -1.0
    doubtful, refused = chest < config.doubt_below, chest < config.refuse_below
    lateral = float(probabilities[_CHEST[1]]) >= config.lateral_above
    look = others if doubtful else probabilities
    return Verdict(
        _LOOKS[int(look.argmax())],
        refused=refused,
        doubtful=doubtful,
        lateral=lateral and not doubtful,
    )


def chest_probability(probabilities: Tensor) -> Tensor:
    """(N, 5) -> (N): frontal or lateral, upright, as a chest radiograph is shown."""
    return probabilities[:, _CHEST].sum(dim=1)


def _level(in_channels: int, out_channels: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(groups, out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.GroupNorm(groups, out_channels),
        nn.ReLU(),
    )


def _scaled(pixels: Tensor, size: int) -> Tensor:
    grey = pixels.float().mean(dim=1, keepdim=True)
    if grey.shape[-2:] == (size, size):
        return grey
    return F.interpolate(grey, (size, size), mode="bilinear", antialias=True, align_corners=False)


def _standardised(grey: Tensor) -> Tensor:
    """Each picture with mean 0 and spread 1: hospitals' windows differ, chests do not."""
    mean = grey.mean(dim=(-2, -1), keepdim=True)
    spread = grey.std(dim=(-2, -1), keepdim=True)
    return (grey - mean) / (spread + _LEAST_SPREAD)


def _with_coordinates(grey: Tensor) -> Tensor:
    """(B, 3, S, S): grey, then where each pixel lies: upright or turned is a matter of where."""
    batch, _, height, width = grey.shape
    y = torch.linspace(-1, 1, height, device=grey.device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width, device=grey.device).view(1, 1, 1, -1)
    shape = (batch, 1, height, width)
    return torch.cat([grey, y.expand(shape), x.expand(shape)], dim=1)
