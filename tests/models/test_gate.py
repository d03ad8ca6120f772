"""The gate on pixels: its thresholds, its files, and what it does not depend on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.gates import SMALL, gate_that_says, with_gate

from llmcxr_models.checkpoint import MANIFEST, Checkpoint, Manifest
from llmcxr_models.errors import DigestMismatch, InvalidCheckpoint, UnsupportedRadiograph
from llmcxr_models.gate import (
    GATE_WEIGHTS,
    LATERAL_BY_PIXELS,
    Gate,
    GateConfig,
    Look,
    chest_probability,
    judge,
)

CONFIG = GateConfig(refuse_below=0.2, doubt_below=0.8, lateral_above=0.6)


@pytest.mark.parametrize(
    ("probabilities", "look", "refused", "doubtful", "lateral"),
    [
        # frontal, lateral, inverted, turned, other
        ((0.99, 0.01, 0.0, 0.0, 0.0), Look.FRONTAL, False, False, False),
        ((0.45, 0.55, 0.0, 0.0, 0.0), Look.LATERAL, False, False, False),
        ((0.10, 0.90, 0.0, 0.0, 0.0), Look.LATERAL, False, False, True),
        ((0.60, 0.10, 0.1, 0.0, 0.2), Look.OTHER, False, True, False),
        ((0.00, 0.70, 0.2, 0.1, 0.0), Look.INVERTED, False, True, False),
        ((0.10, 0.05, 0.1, 0.6, 0.15), Look.TURNED, True, True, False),
        ((0.00, 0.00, 1.0, 0.0, 0.0), Look.INVERTED, True, True, False),
        ((0.00, 0.00, 0.0, 0.0, 1.0), Look.OTHER, True, True, False),
    ],
)
def test_thresholds(
    probabilities: tuple[float, ...], look: Look, refused: bool, doubtful: bool, lateral: bool
) -> None:
    verdict = judge(torch.tensor(probabilities), CONFIG)
    assert verdict.look is look
    assert (verdict.refused, verdict.doubtful, verdict.lateral) == (refused, doubtful, lateral)
    assert len(verdict.warnings()) == (doubtful or lateral)
    assert LATERAL_BY_PIXELS not in verdict.warnings(lateral_is_fine=True)


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (Look.INVERTED, "inverted"),
        (Look.TURNED, "turned"),
        (Look.OTHER, "no-chest-radiograph"),
    ],
)
def test_refusals_have_reasons(look: Look, reason: str) -> None:
    verdict = gate_that_says(look).examine(torch.zeros(1, 40, 40))
    with pytest.raises(UnsupportedRadiograph) as refusal:
        verdict.require_chest()
    assert refusal.value.reason == reason


@pytest.mark.parametrize("look", [Look.FRONTAL, Look.LATERAL])
def test_chests_pass(look: Look) -> None:
    verdict = gate_that_says(look).examine(torch.zeros(3, 40, 40))
    verdict.require_chest()
    assert verdict.lateral is (look is Look.LATERAL)


def test_brightness_and_contrast_do_not_matter() -> None:
    torch.manual_seed(0)
    gate = Gate(GateConfig(input_size=32)).eval()
    pixels = torch.rand(4, 1, 48, 48) * 2 - 1
    plain, changed = (gate.probabilities(p) for p in (pixels, pixels * 0.4 - 0.3))
    torch.testing.assert_close(plain, changed, atol=0.02, rtol=0.0)
    assert chest_probability(plain).shape == (4,)


def test_a_flat_field_is_no_failure() -> None:
    probabilities = Gate(SMALL).eval().probabilities(torch.full((1, 1, 40, 40), 0.3))
    assert torch.isfinite(probabilities).all()


@pytest.mark.parametrize(
    "changes",
    [{"refuse_below": 0.9, "doubt_below": 0.5}, {"doubt_below": 1.5}, {"widths": (9,)},
     {"widths": ()}],
)  # fmt: skip
def test_impossible_settings(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidCheckpoint):
        GateConfig.from_dict(GateConfig().to_dict() | changes)


@pytest.mark.parametrize("changes", [{"colour": 1}, {"widths": None}])
def test_other_keys(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidCheckpoint):
        GateConfig.from_dict(GateConfig().to_dict() | changes)


def test_a_checkpoint_with_a_gate(checkpoint_path: Path, tmp_path: Path) -> None:
    path = with_gate(checkpoint_path, tmp_path / "gated", gate_that_says(Look.TURNED))
    checkpoint = Checkpoint.open(path)
    assert checkpoint.manifest.gate == SMALL
    gate = checkpoint.load_gate()
    assert gate is not None
    assert gate.examine(torch.zeros(1, 16, 16)).look is Look.TURNED
    (path / GATE_WEIGHTS).write_bytes(b"x")
    with pytest.raises(DigestMismatch):
        Checkpoint.open(path)
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(path, verify=False).load_gate()


def test_a_checkpoint_without_one_is_what_it_was(checkpoint_path: Path) -> None:
    checkpoint = Checkpoint.open(checkpoint_path)
    assert checkpoint.load_gate() is None
    written = json.loads((checkpoint_path / MANIFEST).read_text())
    assert "gate" not in written
    assert Manifest.from_dict(written).digest == checkpoint.manifest.digest
