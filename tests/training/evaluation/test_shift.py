"""Simulated shifts, and a whole measurement on a tiny checkpoint: changes, gate, other sources."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.gates import gate_that_says, with_gate
from tests.training.conftest import write_lines, write_record
from tests.training.evaluation.conftest import ScriptedModel

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.gate import Look
from llmcxr_training.data import DataError
from llmcxr_training.datasets import JsonlData
from llmcxr_training.evaluation.answers import Generator
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.metrics.intervals import Interval
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.reader_study.example import draw_phantom
from llmcxr_training.shift.markdown import noticed
from llmcxr_training.shift.run import measure_shift
from llmcxr_training.shift.settings import DomainShift
from llmcxr_training.shift.simulated import SHIFTS, chosen_shifts, shifted

SIDE = 256


@pytest.fixture(scope="module")
def phantom() -> np.ndarray:
    return draw_phantom(np.random.default_rng(0), 1, blur=0.7)


@pytest.fixture
def cache(evaluated_data: Path, phantom: np.ndarray) -> PixelCache:
    studies = JsonlData(manifest=evaluated_data).studies(("val",))[:2]
    return PixelCache(studies, np.stack([phantom, phantom]))


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
def test_every_shift_changes_a_picture_in_a_way_that_can_be_repeated(shift, phantom) -> None:
    before = phantom.copy()
    one, again = (shift.change(phantom, np.random.default_rng(5)) for _ in range(2))
    assert (one.dtype, one.shape) == (np.uint8, phantom.shape)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, before)
    assert np.array_equal(phantom, before)


def test_what_the_shifts_do(phantom) -> None:
    by_name = {shift.name: shift.change for shift in SHIFTS}

    def of(name: str) -> np.ndarray:
        return by_name[name](phantom, np.random.default_rng(1)).astype(float)

    plain = phantom.astype(float)
    assert of("darker").mean() < plain.mean() < of("brighter").mean()
    assert of("flat").std() == pytest.approx(plain.std() / 2, rel=0.05)
    quarter, sixteenth = (np.std(of(name) - plain) for name in ("dose-1-4", "dose-1-16"))
    # A quarter of the dose again: twice the noise, but for what is cut off at black and white.
    assert 1.6 < sixteenth / quarter < 2.1
    grey = np.full((SIDE, SIDE), 128, np.uint8)
    noise = by_name["dose-1-4"](grey, np.random.default_rng(2)).astype(float).std() / 255
    assert noise == pytest.approx(0.02, rel=0.03)
    assert np.array_equal(by_name["mirrored"](of("mirrored").astype(np.uint8), None), phantom)
    assert np.array_equal(of("inverted"), 255 - plain)
    assert (of("rotated-20")[:8, :8] == 0).all()
    written = of("markers") != plain
    assert 0.002 < written.mean() < 0.1
    assert (of("markers")[written] >= plain[written]).all()
    levels = np.bincount(of("mimic").astype(int).ravel(), minlength=256)
    assert np.cumsum(levels)[127] / levels.sum() == pytest.approx(0.5, abs=0.1)


def test_a_picture_is_changed_alike_whatever_is_beside_it(cache: PixelCache) -> None:
    (noise,) = chosen_shifts(("dose-1-4",))
    both = shifted(cache, noise, seed=0)
    alone = shifted(PixelCache(cache.studies[1:], cache.grey[1:]), noise, seed=0)
    assert np.array_equal(both.grey[1], alone.grey[0])
    # Two patients with the same picture do not get the same noise.
    assert not np.array_equal(both.grey[0], both.grey[1])
    assert {s.id for s in both.studies}.isdisjoint(s.id for s in cache.studies)
    assert both.studies[0].patient_id == cache.studies[0].patient_id
    with pytest.raises(DataError, match="no such shift: sepia"):
        chosen_shifts(("sepia",))


def no_generator() -> Generator:
    raise AssertionError("the language model was not wanted")


@pytest.fixture
def config(tmp_path: Path, evaluated_data: Path) -> DomainShift:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    others = [
        write_record(folder, n, split="shift", collection=name, patient_id=f"{name}-{n}",
                     id=f"{name}-{n}", findings="", impression="", labels=None)
        for name, numbers in (("covid", range(100, 104)), ("hannover", range(110, 113)))
        for n in numbers
    ]  # fmt: skip
    write_lines(folder / "manifest.jsonl", others)
    return DomainShift(
        evaluation=tmp_path / "unused.toml",
        output=tmp_path / "shift",
        others=JsonlData(manifest=folder / "manifest.jsonl", collections=("covid", "hannover")),
        shifts=("dose-1-16", "mirrored"),
        reconstructions=12,
    )


def test_the_cheap_form(
    checkpoint_path: Path, settings: Evaluation, config: DomainShift, tmp_path: Path
) -> None:
    gated = with_gate(checkpoint_path, tmp_path / "gated", gate_that_says(Look.LATERAL))
    found = measure_shift(gated, config, settings, no_generator)
    metrics = found["metrics"]
    sets = {one["name"]: one["pictures"] for one in found["sets"]}
    assert sets == {
        "unchanged": 21, "dose-1-16": 21, "mirrored": 21, "lateral": 1, "covid": 4, "hannover": 3,
    }  # fmt: skip
    assert metrics["unchanged.psnr_db"]["n"] == 12
    for name in ("dose-1-16", "mirrored"):
        value, was = metrics[f"{name}.psnr_db"]["value"], metrics["unchanged.psnr_db"]["value"]
        change = metrics[f"{name}.psnr_db.change"]
        assert change["value"] == pytest.approx(value - was, abs=1e-4)
        assert change["low"] <= change["value"] <= change["high"]
        assert f"{name}.judge_auroc.change" in metrics
        assert metrics[f"{name}.lateral"]["value"] == metrics[f"{name}.noticed"]["value"] == 1.0
        assert metrics[f"{name}.refused"]["value"] == 0.0
    # Other patients: an interval of both sets, and no reports to measure a judge with.
    assert metrics["covid.psnr_db.change"]["n"] == 12 + 4
    assert "covid.judge_auroc" not in metrics
    assert "covid.judge_moved.change" in metrics
    assert json.loads((config.output / "shift.json").read_text()) == found
    table = (config.output / "shift.md").read_text(encoding="utf-8")
    assert "| noise of 1/16 of the dose | 21 |" in table
    assert str(config.output) not in table
    # Nothing is computed again.
    before = {p: p.stat().st_mtime_ns for p in (config.output / "work").iterdir()}
    assert measure_shift(gated, config, settings, no_generator)["metrics"] == metrics
    assert {p: p.stat().st_mtime_ns for p in (config.output / "work").iterdir()} == before


def test_refusals_and_a_checkpoint_without_a_gate(
    checkpoint_path: Path, settings: Evaluation, config: DomainShift, tmp_path: Path
) -> None:
    few = config.model_copy(update={"shifts": ("inverted",), "others": None})
    refusing = with_gate(checkpoint_path, tmp_path / "gated", gate_that_says(Look.OTHER))
    metrics = measure_shift(refusing, few, settings, no_generator)["metrics"]
    assert metrics["inverted.refused"]["value"] == metrics["inverted.noticed"]["value"] == 1.0
    assert metrics["inverted.doubted"]["value"] == 0.0
    bare = few.model_copy(update={"output": tmp_path / "bare"})
    found = measure_shift(checkpoint_path, bare, settings, no_generator)
    assert "inverted.refused" not in found["metrics"]
    assert "no gate" in found["not_measured"]["inverted.refused"]


def test_with_the_language_model(
    checkpoint_path: Path, settings: Evaluation, config: DomainShift
) -> None:
    asking = config.model_copy(update={"findings": True, "reports": True, "reconstructions": None})
    model = ScriptedModel(Checkpoint.open(checkpoint_path))
    metrics = measure_shift(checkpoint_path, asking, settings, lambda: model)["metrics"]
    change = metrics["mirrored.report_rouge_l.change"]
    # It writes the same whatever it sees: nothing changes, and that for certain.
    assert (change["value"], change["low"], change["high"]) == (0.0, 0.0, 0.0)
    assert "unchanged.report_label_micro_f1" in metrics
    assert "covid.report_rouge_l" not in metrics


def test_what_counts_as_noticed() -> None:
    def values(high: float, share: float) -> dict[str, Interval]:
        return {
            "x.psnr_db.change": Interval(high - 1, high - 2, high, 9),
            "x.noticed": Interval(share, share, share, 9),
        }

    assert noticed("x", values(-0.1, 0.9)) == "yes"
    assert noticed("x", values(-0.1, 0.1)) == "**no**"
    assert noticed("x", values(0.1, 0.0)) == "no fall"
    assert noticed("unchanged", values(-0.1, 0.9)) == ""
