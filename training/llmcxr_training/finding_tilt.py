"""Which codes speak for a finding, place by place: a linear classifier of codes, as logits.

Ridge regression of findings on the codebook vectors of an image's codes. Its score is a sum over
the image's tokens, so drawing from exp(score) times a model's distribution, which is classifier
guidance (Dhariwal and Nichol, arXiv 2105.05233), is to add one table to the logits of each token:
no gradient, no second network. Strongly shrunk, the weights come near to the difference between
the mean radiographs with and without a finding: what the finding looks like at large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

_LARGEST = 1.5
"""Nats: a code that hardly ever stands in a place may speak for a finding as loudly as it likes;
drawn for that, it is no longer a radiograph."""


@dataclass(frozen=True)
class FindingTilt:
    """The tables.

    Attributes:
        tables: (findings, T, codes) float32; the sum over an image's tokens is its score, of
            variance 1 over the images that it was fitted to.
        frequencies: (T, codes), how often each code stands in each place of these.
    """

    tables: NDArray[np.float32]
    frequencies: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        codes: NDArray[np.integer],
        vectors: NDArray[np.float32],
        targets: NDArray[np.float32],
        shrinkage: float,
    ) -> FindingTilt:
        """Regress findings on codes.

        Args:
            codes: (N, T) of N images.
            vectors: (codebook size, D), the codebook.
            targets: (N, findings) of 0, 1, or NaN for unknown, which counts as the mean.
            shrinkage: penalty over the number of features, T times D.
        """
        (count, length), width = codes.shape, vectors.shape[1]
        features = vectors[codes].reshape(count, length * width).astype(np.float32)
        mean, spread = features.mean(axis=0), features.std(axis=0)
        # Where hardly anything changes, a change would count for more than anywhere else.
        spread = np.maximum(spread, spread.mean())
        features = (features - mean) / spread
        known = np.where(np.isnan(targets), np.nanmean(targets, axis=0), targets)
        ridge = Ridge(alpha=shrinkage * features.shape[1], fit_intercept=False, solver="cholesky")
        weights = ridge.fit(features, known - known.mean(axis=0)).coef_.reshape(-1, length * width)
        scores = features @ weights.T
        weights = weights / np.maximum(scores.std(axis=0), np.finfo(np.float32).tiny)[:, None]
        by_place = (weights / spread).reshape(-1, length, width)
        tables = np.einsum("cd,ftd->ftc", vectors, by_place)
        tables -= np.einsum("td,ftd->ft", mean.reshape(length, width), by_place)[..., None]
        frequencies = np.stack([np.bincount(of, minlength=len(vectors)) for of in codes.T]) / count
        return cls(tables.astype(np.float32), frequencies.astype(np.float32))

    def scores(self, codes: NDArray[np.integer]) -> NDArray[np.float32]:
        """(N, T) codes -> (N, findings)."""
        places = np.arange(codes.shape[1])
        return np.stack([table[places, codes].sum(axis=1) for table in self.tables], axis=1)

    def towards(self, wanted: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
        """Logits (N, T, codes) to add, for weights (N, findings) of how much each is wanted.

        Each is scaled to a standard deviation of `strength` nats over the codes that stand in
        each place (root of the mean square over places), however many findings are wanted: added
        up, they would leave what radiographs look like. Nothing wanted, nothing added.
        """
        tilts = np.einsum("nf,ftc->ntc", wanted, self.tables)
        tilts -= np.einsum("ntc,tc->nt", tilts, self.frequencies)[..., None]
        squares = np.einsum("ntc,tc->nt", tilts**2, self.frequencies)
        sizes = np.sqrt(squares.mean(axis=1))
        scale = np.divide(strength, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        scaled = tilts * scale[:, None, None]
        return np.asarray(scaled.clip(-_LARGEST, _LARGEST), np.float32)
