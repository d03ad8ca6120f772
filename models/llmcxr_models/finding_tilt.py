"""Which codes speak for a finding, place by place: a linear classifier of codes, as logits.

Its score is a sum over an image's tokens, so drawing from exp(score) times a model's distribution,
which is classifier guidance (Dhariwal and Nichol, arXiv 2105.05233), is to add one table to the
logits of each token: no gradient, no second network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

LARGEST = 1.5
"""Nats: a code that hardly ever stands in a place may speak for a finding as loudly as it likes;
drawn for that, it is no longer a radiograph."""

TABLES = Path("guidance") / "tables.safetensors"
"""Inside the directory that vLLM serves, and in a folder of its own there: beside the model's
weights, vLLM would read the tables as some of them."""

_TENSORS = ("weights", "vectors", "frequencies")


@dataclass(frozen=True)
class FindingTilt:
    """The classifier.

    Attributes:
        findings: their names.
        weights: (findings, T, D), of the vector of the code in each place; the score of an
            image, the sum over its tokens, has variance 1 over the images that it was fitted to.
        vectors: (codes, D), the codebook.
        frequencies: (T, codes), how often each code stands in each place of these images.
    """

    findings: tuple[str, ...]
    weights: NDArray[np.float32]
    vectors: NDArray[np.float32]
    frequencies: NDArray[np.float32]

    def __post_init__(self) -> None:
        findings, length, width = self.weights.shape
        expected = ((len(self.vectors), width), (length, len(self.vectors)), len(self.findings))
        if (self.vectors.shape, self.frequencies.shape, findings) != expected:
            raise ValueError("weights, vectors and frequencies do not fit each other")

    @cached_property
    def tables(self) -> NDArray[np.float32]:
        """(findings, T, codes), of mean 0 in each place over the images it was fitted to."""
        tables = np.einsum("cd,ftd->ftc", self.vectors, self.weights)
        tables -= np.einsum("ftc,tc->ft", tables, self.frequencies)[..., None]
        return np.asarray(tables, np.float32)

    @cached_property
    def _products(self) -> NDArray[np.float64]:
        """(findings, findings): of two tables, the mean over places and over their codes."""
        weighted = self.tables * self.frequencies
        products = np.tensordot(weighted, self.tables, axes=([1, 2], [1, 2]))
        return np.asarray(products / self.frequencies.shape[0], np.float64)

    def scores(self, codes: NDArray[np.integer]) -> NDArray[np.float32]:
        """(N, T) codes -> (N, findings); 0 is the mean image."""
        places = np.arange(codes.shape[1])
        return np.stack([table[places, codes].sum(axis=1) for table in self.tables], axis=1)

    def scaled(self, wanted: NDArray[np.floating], strength: float) -> NDArray[np.float32]:
        """How much of each table to add, (N, findings), for how much each finding is wanted.

        So that their sum has a standard deviation of `strength` nats over the codes that stand in
        a place (root of the mean square over places), however many findings are wanted: added up,
        they would leave what radiographs look like. Nothing wanted, nothing added.
        """
        wanted = np.asarray(wanted, np.float64)
        sizes = np.sqrt(np.einsum("nf,fg,ng->n", wanted, self._products, wanted).clip(0.0))
        scale = np.divide(strength, sizes, out=np.zeros_like(sizes), where=sizes > 0.0)
        return np.asarray(wanted * scale[:, None], np.float32)

    def towards(self, wanted: NDArray[np.floating], strength: float) -> NDArray[np.float32]:
        """Logits to add, (N, T, codes), none of them larger than `LARGEST`."""
        tilts = np.einsum("nf,ftc->ntc", self.scaled(wanted, strength), self.tables)
        return np.asarray(tilts.clip(-LARGEST, LARGEST), np.float32)

    def save(self, path: Path, image_offset: int) -> None:
        """Write a file of safetensors.

        Args:
            path: of the file.
            image_offset: token id of code 0, for whoever adds logits by token id.
        """
        stored: dict[str, NDArray[Any]] = {
            "weights": np.ascontiguousarray(self.weights, np.float32),
            "vectors": np.ascontiguousarray(self.vectors, np.float32),
            # Shares of some thousand images: half precision is as much as they are worth.
            "frequencies": np.ascontiguousarray(self.frequencies, np.float16),
        }
        described = {"findings": json.dumps(self.findings), "image_offset": str(image_offset)}
        # As any file: `save_file` lets nobody but the owner read it.
        path.write_bytes(save(stored, described))

    @classmethod
    def load(cls, path: Path) -> tuple[FindingTilt, int]:
        """The inverse of `save`: the classifier, and the token id of code 0.

        Raises:
            ValueError: it cannot be read, or is something else.
        """
        try:
            with safe_open(path, framework="np") as file:
                described = file.metadata() or {}
                stored = [file.get_tensor(name).astype(np.float32) for name in _TENSORS]
            findings = tuple(json.loads(described["findings"]))
            return cls(findings, *stored), int(described["image_offset"])
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(f"{path.name} holds no tables of findings") from error
