"""How far two sets of images lie apart in a feature space, and how much of it each covers.

Features are (N, D); the space is the caller's choice (the judge, or a larger classifier).
Nothing here resamples with repetition: a repeated image is its own nearest neighbour, so use
`intervals.jackknife` for intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


def frechet_distance(first: Features, second: Features) -> float:
    """Fréchet distance of the two sets' normal approximations (Heusel et al., arXiv 1706.08500).

    The trace of the covariances' product root comes from eigenvalues of a symmetric matrix, so it
    is real and safe for fewer samples than dimensions. It is biased upward for few samples:
    compare only sets of equal sizes.
    """
    _check(first, second)
    mean_gap = float(np.square(_mean(first) - _mean(second)).sum())
    cov_first, cov_second = _covariance(first), _covariance(second)
    values, vectors = np.linalg.eigh(cov_first)
    root = vectors * np.sqrt(np.clip(values, 0.0, None)) @ vectors.T
    product = np.linalg.eigvalsh(root @ cov_second @ root)
    overlap = float(np.sqrt(np.clip(product, 0.0, None)).sum())
    return max(0.0, mean_gap + float(np.trace(cov_first) + np.trace(cov_second)) - 2.0 * overlap)


def kernel_distance(first: Features, second: Features) -> float:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3 (KID, arXiv 1801.01401).

    About zero for sets of one distribution, also negative.
    """
    _check(first, second)
    a, b = first.astype(np.float64), second.astype(np.float64)
    within_a, within_b, between = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    return float(_mean_off_diagonal(within_a) + _mean_off_diagonal(within_b) - 2.0 * between.mean())


@dataclass(frozen=True)
class Overlap:
    """Where the generated images lie, seen from the real ones, and the other way round.

    Attributes:
        precision: share of generated images inside the real ones' manifold (fidelity).
        recall: share of real images inside the generated ones' manifold (diversity).
        density: real neighbourhoods that a generated image lies in, over `neighbours`.
        coverage: share of real images with a generated one in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: Features, generated: Features, *, neighbours: int = 5) -> Overlap:
    """Precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    An image's neighbourhood is the ball that reaches to its `neighbours`-th nearest of its own set.

    Raises:
        ValueError: not more images than neighbours.
    """
    _check(real, generated)
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError("each set needs more images than neighbours")
    between = _distances(real, generated)
    real_radius = _radius(real, neighbours)
    inside_real = between <= real_radius[:, None]
    inside_generated = between <= _radius(generated, neighbours)[None, :]
    return Overlap(
        precision=float(inside_real.any(axis=0).mean()),
        recall=float(inside_generated.any(axis=1).mean()),
        density=float(inside_real.sum(axis=0).mean() / neighbours),
        coverage=float(inside_real.any(axis=1).mean()),
    )


def nearest(of: Features, among: Features) -> NDArray[np.intp]:
    """Index into `among` (M, D) of the nearest row to each of `of` (N, D), Euclidean: (N,)."""
    return np.asarray(_distances(of, among).argmin(axis=1), np.intp)


def nearest_distance(of: Features, among: Features) -> NDArray[np.float64]:
    """Euclidean distance of each of `of` (N, D) to the nearest row of `among` (M, D): (N,)."""
    return np.asarray(_distances(of, among).min(axis=1), np.float64)


def standardised(features: Features, like: Features) -> NDArray[np.float64]:
    """`features` in units of the standard deviation of `like`; one without spread has no say."""
    deviation = np.asarray(like.std(axis=0, dtype=np.float64))
    return np.asarray(features / np.where(deviation > 1e-8, deviation, np.inf), np.float64)


def _check(first: Features, second: Features) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError("features are (N, D) with one D")
    if min(len(first), len(second)) < 2:
        raise ValueError("a distribution needs two images at least")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("features are finite numbers")


def _mean(features: Features) -> NDArray[np.float64]:
    return np.asarray(features.mean(axis=0, dtype=np.float64), np.float64)


def _covariance(features: Features) -> NDArray[np.float64]:
    return np.atleast_2d(np.cov(features.astype(np.float64), rowvar=False))


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3)


def _mean_off_diagonal(kernel: NDArray[np.float64]) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def _distances(a: Features, b: Features) -> NDArray[np.float64]:
    """(len(a), len(b)), Euclidean."""
    # Centred first: differences of large squares lose digits.
    centre = _mean(b)
    x, y = a.astype(np.float64) - centre, b.astype(np.float64) - centre
    squared = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2.0 * x @ y.T
    return np.asarray(np.sqrt(np.clip(squared, 0.0, None)))


def _radius(features: Features, neighbours: int) -> NDArray[np.float64]:
    """Distance of each row to its `neighbours`-th nearest other row: (N,)."""
    distances = _distances(features, features)
    np.fill_diagonal(distances, np.inf)
    return np.asarray(np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1])
