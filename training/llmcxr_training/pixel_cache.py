"""Every radiograph decoded and scaled once: one memory-mapped uint8 array (N, S, S) a data set."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from llmcxr_models.errors import CxrError
from llmcxr_models.preprocess import Preprocessing, to_grey8, to_pixels
from llmcxr_models.radiograph_file import read_radiograph
from llmcxr_training.data import DataError, Study
from llmcxr_training.run_state import write_json

_log = logging.getLogger(__name__)

_CHUNK = 256
"""Pictures decoded before they are written: no more than these are held in memory."""


class PixelCache:
    """Model pixels by study, in the order of the studies that could be read.

    Attributes:
        studies: the studies, one a row.
        grey: (N, S, S) uint8.
    """

    def __init__(self, studies: Sequence[Study], grey: NDArray[np.uint8]) -> None:
        self.studies = list(studies)
        self.grey = grey

    def __len__(self) -> int:
        return len(self.studies)

    def batch(self, rows: Sequence[int], channels: int) -> Tensor:
        """Pixels (B, channels, S, S), float32 in [-1, 1]."""
        pixels = model_pixels(np.stack([self.grey[row] for row in rows]))
        return pixels.expand(-1, channels, -1, -1).contiguous()

    @classmethod
    def open(
        cls, studies: Sequence[Study], preprocessing: Preprocessing, folder: Path
    ) -> PixelCache:
        """Read the cache in `folder`, or make it; damaged pictures are skipped and listed.

        Raises:
            DataError: not one picture could be read.
        """
        key = _key(studies, preprocessing)
        array_path, index_path = folder / f"pixels-{key}.npy", folder / f"pixels-{key}.json"
        if not index_path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _build(studies, preprocessing, array_path, index_path)
        kept = set(json.loads(index_path.read_text()))
        readable = [study for study in studies if study.id in kept]
        # As many rows were made as there are studies, before any was found to be damaged.
        return cls(readable, np.load(array_path, mmap_mode="r")[: len(readable)])


def _key(studies: Sequence[Study], preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(json.dumps(asdict(preprocessing), sort_keys=True).encode())
    for study in studies:
        digest.update(f"{study.id}\0{study.path.stat().st_size}\0".encode())
    return digest.hexdigest()[:16]


def _build(
    studies: Sequence[Study], preprocessing: Preprocessing, array_path: Path, index_path: Path
) -> None:
    """Decode with a thread a processor, straight to disk: a large data set fits no memory."""
    size = preprocessing.image_size
    temporary = array_path.with_suffix(".tmp.npy")
    array = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        temporary, mode="w+", dtype=np.uint8, shape=(len(studies), size, size)
    )
    kept: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in tqdm(range(0, len(studies), _CHUNK), desc="decoding", unit="batch"):
            chunk = studies[start : start + _CHUNK]
            decoded = threads.map(lambda study: _decode(study, preprocessing), chunk)
            for study, grey in zip(chunk, decoded, strict=True):
                if grey is not None:
                    array[len(kept)] = grey
                    kept.append(study.id)
    array.flush()
    if not kept:
        temporary.unlink()
        raise DataError("not one picture could be read")
    temporary.replace(array_path)
    # The index is written last: a cache without one is unfinished and is made again.
    write_json(index_path, kept)


def model_pixels(grey: NDArray[np.uint8]) -> Tensor:
    """Pictures (N, S, S) as float32 pixels (N, 1, S, S) in [-1, 1]."""
    return torch.tensor(grey).float().div_(127.5).sub_(1.0).unsqueeze(1)


def _decode(study: Study, preprocessing: Preprocessing) -> NDArray[np.uint8] | None:
    try:
        radiograph = read_radiograph(study.path.read_bytes(), preprocessing.pipeline)
    except CxrError as error:
        _log.warning("skipped %s: %s", study.id, error)
        return None
    return to_grey8(to_pixels(radiograph, preprocessing))
