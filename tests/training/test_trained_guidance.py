"""`llmcxr-train guidance`, and what a release and its checkpoint carry of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.training.conftest import untrained

from llmcxr_models.checkpoint import LLM_FOLDER, Checkpoint
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.finding_tilt import TABLES, FindingTilt
from llmcxr_training.data import DataError
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.release import assemble, publish
from llmcxr_training.trained_guidance import GUIDANCE_JSON, TrainedGuidance, fit_guidance

FINDINGS = ("No Finding", "Cardiomegaly")
NAMED = {"name": "tiny", "version": "1", "max_model_len": 512}


@pytest.fixture
def run(make_config: Callable[..., Finetuning]) -> Finetuning:
    return untrained(make_config())


@pytest.fixture
def folder(run: Finetuning, tmp_path: Path) -> Path:
    fit_guidance(run, findings=FINDINGS, strength=0.4).save(tmp_path / "guidance")
    return tmp_path / "guidance"


def test_fitted_to_training_patients(run: Finetuning) -> None:
    found = fit_guidance(run, findings=FINDINGS)
    train = [s for s in run.data.studies() if s.split == "train" and s.is_frontal]
    assert 0 < found.images <= len(train)
    assert found.config.findings == found.tilt.findings == FINDINGS
    assert all(0.0 < share < 1.0 for share in found.config.prevalence)
    again = fit_guidance(run, findings=FINDINGS)
    np.testing.assert_array_equal(found.tilt.weights, again.tilt.weights)


def test_a_finding_that_nobody_has_cannot_be_fitted(run: Finetuning) -> None:
    with pytest.raises(DataError, match="with and without Pleural Other"):
        fit_guidance(run, findings=("Cardiomegaly", "Pleural Other"))
    with pytest.raises(DataError, match="Gout"):
        fit_guidance(run, findings=("Gout",))


def test_published_and_assembled(run: Finetuning, folder: Path, tmp_path: Path) -> None:
    manifest = publish(run, tmp_path / "release", guidance=folder, **NAMED)
    assert manifest.guidance is not None
    assert (manifest.guidance.findings, manifest.guidance.strength) == (FINDINGS, 0.4)
    assert manifest.provenance["guidance"]["shrinkage"] == 30.0
    built = assemble(tmp_path / "release", run.base, tmp_path / "checkpoint")
    checkpoint = Checkpoint.open(built.path)
    tables = checkpoint.llm_path / TABLES
    assert f"{LLM_FOLDER}/{TABLES.as_posix()}" in checkpoint.manifest.files
    tilt, offset = FindingTilt.load(tables)
    assert offset == checkpoint.manifest.vocabulary.image_offset
    np.testing.assert_allclose(
        tilt.tables, TrainedGuidance.load(folder).tilt.tables, rtol=1e-5, atol=1e-5
    )
    # Published again without: nothing of the earlier tables is left.
    assert publish(run, tmp_path / "release", **NAMED).guidance is None
    assert not (tmp_path / "release" / LLM_FOLDER / TABLES).exists()
    assemble(tmp_path / "release", run.base, tmp_path / "plain")


def test_a_checkpoint_without_adapters_has_it_too(
    make_config: Callable[..., Finetuning], folder: Path, run: Finetuning, tmp_path: Path
) -> None:
    whole = untrained(make_config(lora=None, vqgan=run.vqgan, output=run.output))
    publish(whole, tmp_path / "checkpoint", guidance=folder, **NAMED)
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    assert (checkpoint.llm_path / TABLES).is_file()


def test_tables_of_other_codes_are_refused(run: Finetuning, folder: Path, tmp_path: Path) -> None:
    described = json.loads((folder / GUIDANCE_JSON).read_text())
    (folder / GUIDANCE_JSON).write_text(json.dumps(described | {"code_digest": "0" * 64}))
    with pytest.raises(InvalidCheckpoint, match="another VQ-GAN"):
        publish(run, tmp_path / "release", guidance=folder, **NAMED)
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"images": "many"}, "damaged"),
        ({"guidance": None}, "other keys"),
        (
            {"guidance": {"findings": ["Edema"], "prevalence": [0.1], "strength": 0.5}},
            "of other tables",
        ),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, changed: dict[str, object], match: str) -> None:
    described = json.loads((folder / GUIDANCE_JSON).read_text())
    (folder / GUIDANCE_JSON).write_text(json.dumps(described | changed))
    with pytest.raises(InvalidCheckpoint, match=match):
        TrainedGuidance.load(folder)
    with pytest.raises(InvalidCheckpoint, match=re.escape(GUIDANCE_JSON)):
        TrainedGuidance.load(folder.parent)
