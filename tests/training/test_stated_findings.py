"""From which answer on a finding is stated: learnt from training radiographs, kept, published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_training.data import DataError
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.release import publish
from llmcxr_training.stage import finetune
from llmcxr_training.stated_findings import read_thresholds, stated_from, write_thresholds

NAMED = {"name": "tiny", "version": "1", "max_model_len": 512}


@pytest.fixture
def run(make_config: Callable[..., Finetuning]) -> Finetuning:
    config = make_config(steps=1)
    finetune(config)
    return config


def test_the_rarer_it_is_to_be_stated_the_surer_the_answer(run: Finetuning) -> None:
    found = stated_from(run, ("cardiomegaly",), share=0.5)
    assert found.keys() == {"cardiomegaly"}
    assert 0.0 < found["cardiomegaly"] < 1.0
    assert stated_from(run, ("cardiomegaly",), share=0.5) == found
    often, seldom = (
        stated_from(run, ("cardiomegaly",), share=s)["cardiomegaly"] for s in (1.0, 0.1)
    )
    assert often <= found["cardiomegaly"] <= seldom
    assert often < seldom


@pytest.mark.parametrize("name", ["gout", "calcified granuloma"])
def test_what_is_not_asked_or_no_text_affirms(run: Finetuning, name: str) -> None:
    with pytest.raises(DataError, match=name):
        stated_from(run, (name,))


def test_a_run_without_a_state(make_config: Callable[..., Finetuning]) -> None:
    with pytest.raises(FileNotFoundError, match="no run state"):
        stated_from(make_config(), ("cardiomegaly",))


def test_published(run: Finetuning, tmp_path: Path) -> None:
    write_thresholds(tmp_path / "new" / "stating.json", {"cardiomegaly": 0.25})
    path = tmp_path / "new" / "stating.json"
    manifest = publish(run, tmp_path / "release", stating=path, **NAMED)
    assert manifest.stated_from == {"cardiomegaly": 0.25}
    again = Checkpoint.open(tmp_path / "release", verify=False).manifest
    assert again.stated_from == {"cardiomegaly": 0.25}
    assert publish(run, tmp_path / "release", **NAMED).stated_from == {}


def test_damaged_thresholds(run: Finetuning, tmp_path: Path) -> None:
    path = tmp_path / "stating.json"
    for content in ("{", "[]", '{"stated_from": 1}', '{"stated_from": {"cardiomegaly": "x"}}'):
        path.write_text(content)
        with pytest.raises(InvalidCheckpoint, match=r"stating\.json holds no thresholds"):
            read_thresholds(path)
    path.write_text('{"stated_from": {"gout": 0.5}}')
    with pytest.raises(InvalidCheckpoint, match="does not ask about"):
        publish(run, tmp_path / "release", stating=path, **NAMED)
    assert not (tmp_path / "release").exists()
