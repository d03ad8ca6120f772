"""`llmcxr-train gate`: learn what an upright chest radiograph looks like; minutes on a processor.

The train split's frontal and lateral radiographs against drawn pictures, pictures of other
things, and chests that are inverted, turned or cut up. Thresholds are chosen on the val split;
`gate_measurement` reads the test split.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from llmcxr_models.gate import GATE_WEIGHTS, Gate, GateConfig, Look, chest_probability
from llmcxr_models.preprocess import Preprocessing
from llmcxr_training.data import DataError, Study, describe
from llmcxr_training.gate_pictures import (
    DRAWN,
    Grey,
    invert,
    read_folder,
    shake,
    shuffle_tiles,
    turn,
)
from llmcxr_training.gate_settings import GateTraining
from llmcxr_training.learning_rate import warm_cosine
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.run_state import git_state, save_weights, seed_everything, write_json
from llmcxr_training.trained_gate import GATE_JSON

_log = logging.getLogger(__name__)

_LOOKS = tuple(Look)
# How many of a batch look like what; frontal radiographs are what is asked for most.
_SHARES = {
    Look.FRONTAL: 0.4,
    Look.LATERAL: 0.15,
    Look.INVERTED: 0.1,
    Look.TURNED: 0.1,
    Look.OTHER: 0.25,
}
_SHUFFLED_SHARE = 0.2
_CERTAIN, _SURE = 0.2, 0.8
"""Highest thresholds of refusal and of doubt."""
_VERSIONS = 5
"""The val split's radiographs are looked at as they are and changed as hospitals differ."""


def train_gate(config: GateTraining) -> Path:
    """Train, choose thresholds, write `gate.safetensors` and `gate.json`; returns the first."""
    if config.threads:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    studies = config.data.studies()
    _log.info("data: %s", describe(studies))
    cache = PixelCache.open(studies, _preprocessing(config), config.output.parent / "pixels")
    pictures = _Pictures(config, cache)
    gate = Gate(GateConfig(config.input_size, config.widths))
    _fit(gate, pictures, config)
    gate.eval()
    chosen = choose_thresholds(gate, pictures, config)
    config.output.mkdir(parents=True, exist_ok=True)
    write_json(config.output / "config.json", config.model_dump(mode="json"))
    write_json(
        config.output / GATE_JSON,
        {
            "gate": chosen.to_dict(),
            "preprocessing": {"pipeline": config.pipeline, "geometry": config.geometry},
            "steps": config.steps,
            "seed": config.seed,
            "collections": list(config.data.collection_names),
            "git": git_state(),
        },
    )
    save_weights(config.output / GATE_WEIGHTS, dict(gate.state_dict()))
    return config.output / GATE_WEIGHTS


def _preprocessing(config: GateTraining) -> Preprocessing:
    return Preprocessing(config.pipeline, config.geometry, config.image_size, 1)


def load_pixels(greys: Sequence[Grey], size: int) -> Tensor:
    """8-bit pictures as pixels (N, 1, size, size) in [-1, 1]."""
    parts = []
    for start in range(0, len(greys), 256):
        grey = torch.from_numpy(np.stack(greys[start : start + 256])).float().unsqueeze(1)
        parts.append(F.interpolate(grey, (size, size), mode="bilinear", antialias=True))
    return torch.cat(parts) / 127.5 - 1.0


class _Pictures:
    """Everything that is learnt from, a little larger than the network's input."""

    def __init__(self, config: GateTraining, cache: PixelCache) -> None:
        self.side = config.input_size + config.input_size // 4
        rng = np.random.default_rng(config.seed)

        def of(split: str, frontal: bool) -> Tensor:
            def wanted(study: Study) -> bool:
                return study.split == split and study.is_frontal is frontal

            rows = [i for i, study in enumerate(cache.studies) if wanted(study)]
            if not rows:
                if frontal:
                    raise DataError(f"a gate needs frontal radiographs of {split}")
                return torch.empty(0, 1, self.side, self.side)
            return load_pixels([np.asarray(cache.grey[row]) for row in rows], self.side)

        self.frontal, self.lateral = of("train", True), of("train", False)
        self.val_frontal = of("val", True)
        size = config.image_size
        kinds = [[draw(rng, size) for _ in range(config.drawn_each)] for draw in DRAWN.values()]
        if config.pictures is not None:
            folders = sorted(p for p in (config.pictures / "train").iterdir() if p.is_dir())
            kinds += [read_folder(folder, size, config.crops_each, rng) for folder in folders]
        self.others = [load_pixels(kind, self.side) for kind in kinds]

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pixels (size, 1, side, side) and the index of each one's look (size)."""
        weights = torch.tensor([_SHARES[look] for look in _LOOKS])
        if not len(self.lateral):
            weights[_LOOKS.index(Look.LATERAL)] = 0.0
        looks = torch.multinomial(weights, size, replacement=True, generator=generator)
        counts = torch.bincount(looks, minlength=len(_LOOKS)).tolist()
        made = [
            self._of_look(look, count, generator)
            for look, count in zip(_LOOKS, counts, strict=True)
            if count
        ]
        return torch.cat(made), torch.sort(looks).values

    def _of_look(self, look: Look, count: int, generator: torch.Generator) -> Tensor:
        if look is Look.OTHER:
            return self._others(count, generator)
        source = self.lateral if look is Look.LATERAL else self.frontal
        pixels = shake(_some(source, count, generator), generator)
        if look is Look.INVERTED:
            return invert(pixels)
        return turn(pixels, generator) if look is Look.TURNED else pixels

    def _others(self, count: int, generator: torch.Generator) -> Tensor:
        kinds = torch.randint(len(self.others), (count,), generator=generator).tolist()
        pixels = torch.cat([_some(self.others[kind], 1, generator) for kind in kinds])
        shuffled = torch.rand((count, 1, 1, 1), generator=generator) < _SHUFFLED_SHARE
        tiles = shuffle_tiles(_some(self.frontal, count, generator), generator)
        return shake(torch.where(shuffled, tiles, pixels), generator)


def _some(pixels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return pixels[torch.randint(len(pixels), (count,), generator=generator)]


def _fit(gate: Gate, pictures: _Pictures, config: GateTraining) -> None:
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(
        gate.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    gate.train()
    with tqdm(total=config.steps, desc="gate", unit="step") as progress:
        for step in range(config.steps):
            share = warm_cosine(step, config.warmup_steps, config.steps)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * share
            pixels, looks = pictures.batch(config.batch_size, generator)
            loss = F.cross_entropy(gate(pixels), looks, label_smoothing=0.02)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            progress.update()
            if step % 50 == 0:
                progress.set_postfix(loss=f"{loss.item():.3f}")


def choose_thresholds(gate: Gate, pictures: _Pictures, config: GateTraining) -> GateConfig:
    """By the val split's frontal radiographs, as they are and changed as hospitals differ.

    However sure the network is of every radiograph of its own hospital, a picture is refused
    only where it is also certain that there is no chest, and doubted only where it is not sure.
    """
    generator = torch.Generator().manual_seed(config.seed + 1)
    plain = pictures.val_frontal
    versions = [plain] + [shake(plain, generator, strength=0.7) for _ in range(_VERSIONS - 1)]
    probabilities = gate.probabilities(torch.cat(versions))
    chest = chest_probability(probabilities).numpy()
    lateral = probabilities[:, _LOOKS.index(Look.LATERAL)].numpy()
    refuse = min(float(np.quantile(chest, 1 - config.keep)), _CERTAIN)
    doubt = min(float(np.quantile(chest, 1 - config.keep_without_doubt)), _SURE)
    _log.info("val: refused below %.4f, doubted below %.4f", refuse, doubt)
    return replace(
        gate.config,
        refuse_below=refuse,
        doubt_below=max(doubt, refuse),
        lateral_above=max(float(np.quantile(lateral, config.keep)), 0.5),
    )
