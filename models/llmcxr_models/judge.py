"""The judge: a small multi-label classifier of radiographs, and the features it sees them by.

Judges have three uses, and the one that measures has no other: it measures generated and
reconstructed images where no larger classifier is at hand; a judge's features are the clinical
term of the VQ-GAN's loss (arXiv 2305.11490, section 3.1); and a checkpoint may carry one that
picks among several drawn images. What it says of an image depends on no other image: batch
normalisation, where chosen, uses the statistics of training (call `eval`, as `load` does). It
knows nothing of reports.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.oriented_gradients import channels, oriented_gradients
from llmcxr_models.stored_weights import with_weights

Normalisation = Literal["group", "batch"]

JUDGE_WEIGHTS = "judge.safetensors"
JUDGE_JSON = "judge.json"


@dataclass(frozen=True)
class JudgeConfig:
    """Geometry of a judge.

    Attributes:
        findings: what it scores, in this order.
        input_size: side to which images are scaled before they are looked at, pixels.
        widths: channels of each level; every level halves the side.
        blocks: residual blocks in each level.
        norm_groups: groups of every group normalisation.
        dropout: of the features, in training only.
        orientations: directions of a fixed first layer of oriented gradients at a quarter of the
            side, where the first level does not halve it again; 0 to look at pixels.
        normalisation: `group`, or `batch`, which learns faster from batches of 32 and more.
        thresholds: scores (probabilities) from which on a finding is called present; chosen on
            validation data.
    """

    findings: tuple[str, ...]
    input_size: int = 192
    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: int = 2
    norm_groups: int = 8
    dropout: float = 0.2
    orientations: int = 0
    normalisation: Normalisation = "group"
    thresholds: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.findings or not self.widths or self.blocks < 1:
            raise InvalidCheckpoint("a judge needs findings, levels and blocks.")
        if self.normalisation not in ("group", "batch") or self.orientations < 0:
            raise InvalidCheckpoint("a judge of an unknown normalisation or first layer.")
        if any(width % self.norm_groups for width in self.widths):
            raise InvalidCheckpoint("norm_groups must divide the channels of every level.")
        if self.thresholds and len(self.thresholds) != len(self.findings):
            raise InvalidCheckpoint("a judge has one threshold a finding.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> JudgeConfig:
        """Read what `asdict` gave.

        Raises:
            InvalidCheckpoint: a key is missing, unknown, or of another type.
        """
        try:
            plain: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            return cls(**plain)
        except (AttributeError, TypeError) as error:
            raise InvalidCheckpoint("the judge's description has other keys.") from error

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the inverse of `from_dict`."""
        return asdict(self)


class Judge(nn.Module):
    """Pixels (B, 1|3, S, S) in [-1, 1] -> features (B, D) -> logits (B, findings)."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        first, last = config.widths[0], config.widths[-1]
        self.stem = _stem(config)
        self.levels = nn.ModuleList()
        width = first
        for out_channels in config.widths:
            halves = self.levels or not config.orientations
            blocks = [_Block(width, out_channels, config, stride=2 if halves else 1)]
            blocks += [_Block(out_channels, out_channels, config) for _ in range(config.blocks - 1)]
            self.levels.append(nn.Sequential(*blocks))
            width = out_channels
        self.norm = _norm(config, last)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(last, len(config.findings))

    @property
    def feature_size(self) -> int:
        """D, the length of a feature vector."""
        return self.config.widths[-1]

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps (B, widths[i], side, side) after each level, differentiable to the pixels.

        The clinical-feature loss compares these: means over the whole image are too coarse for it.
        """
        x = _scaled(pixels, self.config.input_size)
        if self.config.orientations:
            x = oriented_gradients(x, self.config.orientations)
        x = self.stem(_with_coordinates(x))
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps

    def features(self, pixels: Tensor) -> Tensor:
        """The vector (B, D) that the findings are read from, float32."""
        return F.relu(self.norm(self.maps(pixels)[-1])).float().mean(dim=(-2, -1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, findings), float32."""
        logits: Tensor = self.head(self.dropout(self.features(pixels)))
        return logits.float()

    @torch.no_grad()
    def scores(self, pixels: Tensor, *, batch_size: int = 32) -> Tensor:
        """Probabilities (N, findings) on the CPU, in batches."""
        device = self.head.weight.device
        parts = [torch.sigmoid(self(p.to(device))).cpu() for p in pixels.split(batch_size)]
        return torch.cat(parts)

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Read `judge.json` and `judge.safetensors`; in evaluation mode, weights frozen.

        Gradients still reach the pixels.

        Raises:
            InvalidCheckpoint: a file is missing, damaged or does not fit.
        """
        try:
            described = json.loads((folder / JUDGE_JSON).read_text(encoding="utf-8"))
            config = JudgeConfig.from_dict(described["judge"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidCheckpoint("the judge's files are missing or damaged.") from error
        return cls.with_weights(folder / JUDGE_WEIGHTS, config)

    @classmethod
    def with_weights(cls, path: Path, config: JudgeConfig) -> Judge:
        """Read weights; in evaluation mode, frozen, as `load` does.

        Raises:
            InvalidCheckpoint: the file is missing, damaged or of another shape.
        """
        judge = with_weights(cls(config), path, "the judge's files are missing or damaged.")
        return judge.eval().requires_grad_(False)

    def is_same_as(self, other: Judge) -> bool:
        """Whether both have the very same weights, however they were stored."""
        ours, theirs = self.state_dict(), other.state_dict()
        return ours.keys() == theirs.keys() and all(
            torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in ours
        )


class _Block(nn.Module):
    """Residual block, normalised before each convolution (He et al., arXiv 1603.05027)."""

    def __init__(
        self, in_channels: int, out_channels: int, config: JudgeConfig, stride: int = 1
    ) -> None:
        super().__init__()
        self.norm1 = _norm(config, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm2 = _norm(config, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        h = self.conv2(F.relu(self.norm2(h)))
        total: Tensor = self.skip(self.pool(x)) + h
        return total


def _stem(config: JudgeConfig) -> nn.Conv2d:
    """The first convolution; it sees the coordinates, too."""
    if config.orientations:
        return nn.Conv2d(channels(config.orientations) + 2, config.widths[0], 3, padding=1)
    return nn.Conv2d(3, config.widths[0], kernel_size=5, stride=2, padding=2)


def _norm(config: JudgeConfig, width: int) -> nn.Module:
    if config.normalisation == "batch":
        return nn.BatchNorm2d(width)
    return nn.GroupNorm(config.norm_groups, width)


def _scaled(pixels: Tensor, size: int) -> Tensor:
    """Grey (B, 1, size, size); anti-aliased, and differentiable."""
    grey = pixels.float().mean(dim=1, keepdim=True)
    if grey.shape[-2:] == (size, size):
        return grey
    return F.interpolate(grey, (size, size), mode="bilinear", antialias=True, align_corners=False)


def _with_coordinates(x: Tensor) -> Tensor:
    """(B, C + 2, H, W): x, then where each point lies, in [-1, 1] (Liu et al., arXiv 1807.03247).

    Chest radiographs are aligned: an enlarged heart is a matter of where.
    """
    batch, _, height, width = x.shape
    down = torch.linspace(-1, 1, height, device=x.device).view(1, 1, -1, 1)
    across = torch.linspace(-1, 1, width, device=x.device).view(1, 1, 1, -1)
    shape = (batch, 1, height, width)
    return torch.cat([x, down.expand(shape), across.expand(shape)], dim=1)
