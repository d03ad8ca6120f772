"""radeval absent, present, and present without weights."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmcxr_training.evaluation.figures import Figures, Resampling
from llmcxr_training.evaluation.learned_text_measures import (
    BY_REPORT,
    WHOLE,
    learned_text_measures,
)

KEYS = {ours for keys in (*BY_REPORT.values(), *WHOLE.values()) for ours in keys.values()}
TEXTS = ["The heart is enlarged.", "No effusion."]

# What the package offers: one class with this call; GREEN's seven billion weights are not there.
PACKAGE = """
class RadEval:
    def __init__(self, metrics=None, per_sample=False, show_progress=True):
        (self.name,) = metrics
        self.per_sample = per_sample
        if self.name == "green":
            raise OSError("no network")

    def __call__(self, refs, hyps):
        same = [float(r == h) for r, h in zip(refs, hyps)]
        if self.name == "radgraph":
            assert self.per_sample
            return {"radgraph_simple": same, "radgraph_partial": same, "radgraph_complete": same}
        if self.name == "f1chexbert":
            assert not self.per_sample
            return {"f1chexbert_all_micro_f1": 0.25, "f1chexbert_5_micro_f1": 0.5}
        raise RuntimeError("not today")
"""


def measured(*, wanted: bool = True) -> Figures:
    figures = Figures()
    generated = [TEXTS[0], "Effusion."]
    learned_text_measures(figures, generated, TEXTS, [1, 2], Resampling(20, 2), wanted=wanted)
    return figures


@pytest.mark.skipif(
    importlib.util.find_spec("radeval") is not None, reason="the real package is installed"
)
def test_without_the_package() -> None:
    figures = measured()
    assert not figures.values
    assert set(figures.not_measured) == KEYS
    assert "not installed" in figures.not_measured["report.green"]


def test_not_asked_for() -> None:
    assert measured(wanted=False).not_measured["report.radgraph"] == "it was not asked for"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "radeval").mkdir()
    (tmp_path / "radeval" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "radeval", raising=False)
    yield
    sys.modules.pop("radeval", None)


@pytest.mark.usefixtures("package")
def test_each_measure_for_itself() -> None:
    figures = measured()
    assert figures.values["report.radgraph"].value == 0.5
    micro = figures.values["report.chexbert_micro_f1"]
    assert micro.value == 0.25
    # One value for all reports together has no interval.
    assert micro.low != micro.low
    assert figures.to_dict()["report.chexbert_micro_f1"]["low"] is None
    assert figures.not_measured["report.green"] == "its weights cannot be loaded here"
    assert figures.not_measured["report.bertscore"] == "radeval failed on these reports"
    assert figures.not_measured["report.chexbert_macro_f1"] == "radeval gave no such value"
