"""What VQ-GAN and judge make of radiographs: codes, reconstructions' figures, features, scores.

Everything is computed once and kept as `.npz`, named by a digest of what it depends on.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from llmcxr_models.checkpoint import VQGAN_WEIGHTS, Checkpoint, sha256
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.judge import JUDGE_JSON, JUDGE_WEIGHTS, Judge
from llmcxr_models.preprocess import to_grey8
from llmcxr_training.data import DataError
from llmcxr_training.evaluation.extractors import load_extractor
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.metrics.reconstruction import (
    FINE_CYCLES,
    high_frequency_power,
    ms_ssim,
    psnr_db,
)
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.precision import resolve_device

Arrays = dict[str, NDArray[Any]]

CHUNK = 256
"""Images that are kept together; a killed evaluation loses at most these."""

LEAST_MS_SSIM_SIDE = 161
"""Five scales of an 11-pixel window need more than 160 pixels."""


@dataclass(frozen=True)
class Seen:
    """Images through the judge's eyes.

    Attributes:
        features: (N, D) float32.
        scores: (N, findings) probabilities.
        extra: (N, E) features of another extractor, where there is one.
    """

    features: NDArray[np.float32]
    scores: NDArray[np.float32]
    extra: NDArray[np.float32] | None = None

    def rows(self, rows: Sequence[int]) -> Seen:
        """A part of them."""
        some = list(rows)
        extra = None if self.extra is None else self.extra[some]
        return Seen(self.features[some], self.scores[some], extra)


@dataclass(frozen=True)
class Reconstructions:
    """Radiographs, and the same through the VQ-GAN.

    Attributes:
        codes: (N, image_length).
        real: the radiographs as the judge sees them.
        reconstructed: their reconstructions.
        figures: one value an image by name: `psnr_db`, `ms_ssim`, `real_power`,
            `reconstructed_power`; some are missing for small images.
    """

    codes: NDArray[np.uint16]
    real: Seen
    reconstructed: Seen
    figures: dict[str, NDArray[np.float64]]


class PictureLab:
    """VQ-GAN and judge of one evaluation, and what they said before.

    Args:
        config: batch size and device.
        checkpoint: whose VQ-GAN.
        folder: of the kept results.

    Raises:
        InvalidCheckpoint: the judge cannot be loaded.
        DataError: the judge was trained on pictures that were made in another way.
    """

    def __init__(self, config: Evaluation, checkpoint: Checkpoint, folder: Path) -> None:
        self._device = resolve_device(config.device)
        self._batch_size = config.batch_size
        self._folder = folder
        self._channels = checkpoint.manifest.vqgan.image_channels
        self._vqgan_digest = checkpoint.manifest.files[VQGAN_WEIGHTS]
        self.judge = Judge.load(config.judge).to(self._device)
        _check_measures_only(self.judge, checkpoint)
        self.judge_digest = sha256(config.judge / JUDGE_WEIGHTS)
        self.extractor = load_extractor(config.extractor, self._device)
        self.tokenizer = ImageTokenizer(checkpoint.load_vqgan(), self._device)
        _check_preprocessing(config.judge, checkpoint)

    def look(self, cache: PixelCache, what: str) -> Seen:
        """Real radiographs through the judge."""

        def compute(rows: range) -> Arrays:
            return _arrays(self._look(cache.batch(rows, self._channels)))

        return _seen(self._by_chunk("look", what, _ids(cache), compute))

    def encode(self, cache: PixelCache, rows: Sequence[int]) -> NDArray[np.uint16]:
        """Codes (len(rows), image_length) of some radiographs."""
        part = PixelCache([cache.studies[i] for i in rows], cache.grey[list(rows)])

        def compute(rows: range) -> Arrays:
            return {"codes": _uint16(self.tokenizer.encode(part.batch(rows, self._channels)))}

        return self._by_chunk("codes", "encoding", _ids(part), compute)["codes"]

    def decode(self, codes: NDArray[np.integer], what: str) -> Seen:
        """Images of codes (N, image_length) through the judge."""
        whole = torch.from_numpy(codes.astype(np.int64))

        def compute(rows: range) -> Arrays:
            return _arrays(self._look(self.tokenizer.decode(whole[rows.start : rows.stop])))

        return _seen(self._by_chunk("decoded", what, _digests(codes), compute))

    def pixels(self, codes: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Pictures (N, S, S) of codes (N, image_length), for people."""
        whole = torch.from_numpy(codes.astype(np.int64))

        def compute(rows: range) -> Arrays:
            images = self.tokenizer.decode(whole[rows.start : rows.stop])
            return {"grey": np.stack([to_grey8(image) for image in images])}

        return self._by_chunk("pixels", "pictures", _digests(codes), compute)["grey"]

    def reconstruct(self, cache: PixelCache) -> Reconstructions:
        """Radiographs through VQ-GAN and judge, in one pass."""

        def compute(rows: range) -> Arrays:
            return self._reconstruct(cache.batch(rows, self._channels))

        found = self._by_chunk("reconstructed", "reconstructing", _ids(cache), compute)
        figures = {
            k.removeprefix("figure_"): v for k, v in found.items() if k.startswith("figure_")
        }
        return Reconstructions(
            found["codes"],
            _seen(found, "real_"),
            _seen(found, "reconstructed_"),
            figures,
        )

    def _reconstruct(self, pixels: Tensor) -> Arrays:
        codes = self.tokenizer.encode(pixels)
        again = self.tokenizer.decode(codes)
        found: Arrays = {"codes": _uint16(codes)}
        for name, images in (("real", pixels), ("reconstructed", again)):
            found |= _arrays(self._look(images), f"{name}_")
        return found | {f"figure_{k}": v for k, v in _figures(pixels, again).items()}

    @torch.inference_mode()
    def _look(self, pixels: Tensor) -> Seen:
        features = self.judge.features(pixels.to(self._device))
        scores = torch.sigmoid(self.judge.head(features).float())
        extra = None
        if self.extractor is not None:
            extra = self.extractor.features(pixels.to(self._device)).float().cpu().numpy()
        return Seen(features.cpu().numpy(), scores.cpu().numpy(), extra)

    def _by_chunk(
        self, name: str, what: str, ids: Sequence[str], compute: Callable[[range], Arrays]
    ) -> Arrays:
        """What `compute` makes of each batch of rows; every chunk is kept once it is done."""
        with tqdm(total=len(ids), desc=what, unit="image") as progress:

            def chunk(start: int, stop: int) -> Arrays:
                parts = []
                for first in range(start, stop, self._batch_size):
                    rows = range(first, min(first + self._batch_size, stop))
                    parts.append(compute(rows))
                    progress.update(len(rows))
                return _joined(parts)

            chunks = []
            for start in range(0, len(ids), CHUNK):
                stop = min(start + CHUNK, len(ids))
                make = functools.partial(chunk, start, stop)
                chunks.append(self._kept(name, "\0".join(ids[start:stop]), make))
                progress.update(stop - progress.n)
        return _joined(chunks)

    def _kept(self, name: str, of: str, compute: Callable[[], Arrays]) -> Arrays:
        extractor = "" if self.extractor is None else f"\0{self.extractor.digest}"
        said = f"{name}\0{self._vqgan_digest}\0{self.judge_digest}{extractor}\0{of}"
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        return kept(self._folder / f"{name}-{digest}.npz", compute)


def kept(path: Path, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays in `path`; they are computed and written, atomically, where it is missing.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npz")
        arrays: dict[str, Any] = dict(compute())
        np.savez_compressed(temporary, **arrays)
        temporary.replace(path)
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged; remove it") from error


def _figures(real: Tensor, reconstructed: Tensor) -> Arrays:
    figures: Arrays = {"psnr_db": psnr_db(real, reconstructed)}
    side = real.shape[-1]
    if side >= LEAST_MS_SSIM_SIDE:
        figures["ms_ssim"] = ms_ssim(real, reconstructed)
    if side // 2 > FINE_CYCLES:
        figures["real_power"] = high_frequency_power(real)
        figures["reconstructed_power"] = high_frequency_power(reconstructed)
    return figures


def _check_measures_only(judge: Judge, checkpoint: Checkpoint) -> None:
    picking = checkpoint.load_judge()
    if picking is not None and picking.is_same_as(judge):
        raise DataError("the checkpoint picks its images by the judge that is to measure them")


def _check_preprocessing(judge: Path, checkpoint: Checkpoint) -> None:
    try:
        described = json.loads((judge / JUDGE_JSON).read_text(encoding="utf-8"))
        stated = (described["preprocessing"]["pipeline"], described["preprocessing"]["geometry"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidCheckpoint("the judge does not say how its pictures were made.") from error
    ours = checkpoint.manifest.preprocessing
    if stated != (ours.pipeline, ours.geometry):
        raise DataError("the judge was trained on pictures made otherwise than the checkpoint's")


def _arrays(seen: Seen, prefix: str = "") -> Arrays:
    arrays: Arrays = {f"{prefix}features": seen.features, f"{prefix}scores": seen.scores}
    return arrays if seen.extra is None else arrays | {f"{prefix}extra": seen.extra}


def _seen(arrays: Arrays, prefix: str = "") -> Seen:
    extra = arrays.get(f"{prefix}extra")
    return Seen(arrays[f"{prefix}features"], arrays[f"{prefix}scores"], extra)


def _ids(cache: PixelCache) -> list[str]:
    return [study.id for study in cache.studies]


def _digests(codes: NDArray[np.integer]) -> list[str]:
    return [hashlib.sha256(row.astype(np.uint16).tobytes()).hexdigest() for row in codes]


def _uint16(codes: Tensor) -> NDArray[np.uint16]:
    return codes.numpy().astype(np.uint16)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
