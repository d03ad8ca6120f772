"""Fits which codes speak for a finding: ridge regression of findings on the codes' vectors.

Strongly shrunk, the weights come near to the difference between the mean radiographs with and
without a finding, which is what the finding looks like at large; hardly shrunk, they are noise
that a classifier likes, and images that lean towards it fall apart (docs/training-notes.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from llmcxr_models.finding_tilt import FindingTilt


def fit_tilt(
    findings: Sequence[str],
    codes: NDArray[np.integer],
    vectors: NDArray[np.float32],
    targets: NDArray[np.float32],
    shrinkage: float,
) -> FindingTilt:
    """Regress findings on codes.

    Args:
        findings: names of the columns of `targets`.
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
    frequencies = np.stack([np.bincount(of, minlength=len(vectors)) for of in codes.T]) / count
    return FindingTilt(
        tuple(findings),
        by_place.astype(np.float32),
        vectors.astype(np.float32),
        frequencies.astype(np.float32),
    )
