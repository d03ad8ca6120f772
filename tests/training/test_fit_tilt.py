"""Which codes speak for a finding: found where it is, scaled, bounded, kept in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmcxr_models.finding_tilt import FindingTilt
from llmcxr_training.fit_tilt import fit_tilt

Drawn = tuple[FindingTilt, np.ndarray, np.ndarray]


@pytest.fixture
def drawn() -> Drawn:
    """A finding that is code 3 in place 2, and one that is nowhere, of 400 images."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 8, (400, 4))
    targets = np.stack([codes[:, 2] == 3, rng.random(400) < 0.3], axis=1).astype(np.float32)
    targets[:5] = np.nan
    vectors = rng.normal(size=(8, 8)).astype(np.float32)
    return fit_tilt(("Cardiomegaly", "Fracture"), codes, vectors, targets, 0.01), codes, targets


def test_the_tilt_is_where_a_finding_is(drawn: Drawn) -> None:
    tilt, _, _ = drawn
    place, code = np.unravel_index(tilt.tables[0].argmax(), tilt.tables[0].shape)
    assert (place, code) == (2, 3)


def test_scores_are_sums_over_tokens(drawn: Drawn) -> None:
    tilt, codes, targets = drawn
    scores = tilt.scores(codes)
    assert scores[0, 0] == pytest.approx(sum(tilt.tables[0, p, c] for p, c in enumerate(codes[0])))
    np.testing.assert_allclose(scores.std(axis=0), 1.0, rtol=1e-3)
    np.testing.assert_allclose(scores.mean(axis=0), 0.0, atol=1e-3)
    assert scores[5:][targets[5:, 0] == 1, 0].min() > scores[5:][targets[5:, 0] == 0, 0].max()


def test_a_tilt_has_its_strength_whatever_is_wanted(
    drawn: Drawn,
) -> None:
    tilt, _, _ = drawn
    wanted = np.array([[1.0, 0.0], [1.0, 1.0], [-0.2, 0.0], [0.0, 0.0]], np.float32)
    tilts = tilt.towards(wanted, 0.2)
    sizes = np.sqrt(np.einsum("ntc,tc->nt", tilts**2, tilt.frequencies).mean(axis=1))
    np.testing.assert_allclose(sizes, [0.2, 0.2, 0.2, 0.0], rtol=1e-4)
    np.testing.assert_allclose(tilts[2], -tilts[0], rtol=1e-3, atol=1e-5)


def test_no_code_is_tilted_without_end(drawn: Drawn) -> None:
    tilt, _, _ = drawn
    tilts = tilt.towards(np.array([[1.0, 0.0]], np.float32), 50.0)
    assert tilts.max() == -tilts.min() == 1.5


def test_frequencies_are_of_each_place(drawn: Drawn) -> None:
    tilt, codes, _ = drawn
    np.testing.assert_allclose(tilt.frequencies.sum(axis=1), 1.0, rtol=1e-5)
    assert tilt.frequencies[2, 3] == pytest.approx((codes[:, 2] == 3).mean())


def test_of_two_wanted_each_counts(drawn: Drawn) -> None:
    tilt, _, _ = drawn
    scaled = tilt.scaled(np.array([[1.0, 0.5]]), 0.3)
    assert scaled[0, 0] == pytest.approx(2 * scaled[0, 1])
    np.testing.assert_allclose(
        tilt.towards(np.array([[1.0, 0.5]]), 0.3)[0],
        np.tensordot(scaled[0], tilt.tables, axes=1).clip(-1.5, 1.5),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_file_keeps_it(drawn: Drawn, tmp_path: Path) -> None:
    tilt, codes, _ = drawn
    tilt.save(tmp_path / "tables.safetensors", image_offset=300)
    again, offset = FindingTilt.load(tmp_path / "tables.safetensors")
    assert (again.findings, offset) == (("Cardiomegaly", "Fracture"), 300)
    np.testing.assert_allclose(again.scores(codes), tilt.scores(codes), atol=0.01)
    assert (tmp_path / "tables.safetensors").stat().st_mode & 0o044  # a container's user reads it


def test_another_file_is_refused(drawn: Drawn, tmp_path: Path) -> None:
    tilt, _, _ = drawn
    path = tmp_path / "tables.safetensors"
    with pytest.raises(ValueError, match="holds no tables"):
        FindingTilt.load(path)
    path.write_bytes(b"{}")
    with pytest.raises(ValueError, match="holds no tables"):
        FindingTilt.load(path)
    with pytest.raises(ValueError, match="do not fit"):
        FindingTilt(("Cardiomegaly",), tilt.weights, tilt.vectors, tilt.frequencies)
