"""The three first experiments: whom they take, and what they ask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.training.evaluation.conftest import ScriptedModel

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.prompt import Task
from llmcxr_models.report import Report
from llmcxr_training.config_file import ConfigError, read_config
from llmcxr_training.data import Study
from llmcxr_training.evaluation.gallery import varied
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.evaluation.suites import SUITES, clear_finding, suite


def found(**values: float) -> dict[str, float]:
    said = {name.replace("_", " "): value for name, value in values.items()}
    return dict.fromkeys(FINDINGS, 0.0) | said


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"Cardiomegaly": 1.0}, "Cardiomegaly"),
        ({"Cardiomegaly": 1.0, "Support_Devices": 1.0}, "Cardiomegaly"),
        ({"Cardiomegaly": 1.0, "Edema": 1.0}, None),
        ({"Cardiomegaly": 1.0, "Edema": np.nan}, None),
        ({"No_Finding": 1.0}, "No Finding"),
        ({"Support_Devices": 1.0}, "No Finding"),
        ({"Edema": np.nan}, None),
    ],
)
def test_one_clear_finding(values: dict[str, float], expected: str | None) -> None:
    assert clear_finding(found(**values)) == expected


def study(number: int, text: str, labels: tuple[str, ...] = ()) -> Study:
    return Study(
        id=str(number),
        path=Path("none.png"),
        split="val",
        view="PA",
        patient_id=f"p{number}",
        report=Report(text, ""),
        labels=labels,
        raw_text=text,
    )


def test_as_many_controls_as_findings() -> None:
    texts = ["The heart is enlarged."] * 3 + ["The lungs are clear."] * 9
    texts += ["Cardiomegaly and a pleural effusion.", "Possible pneumonia."]
    studies = [study(number, text) for number, text in enumerate(texts)]
    reports = SUITES["single-finding-reports"]
    chosen = reports.chosen(studies, 0)
    assert [s.id for s in chosen[:3]] == ["0", "1", "2"]
    assert len(chosen) == 6
    assert {s.report.findings for s in chosen[3:]} == {"The lungs are clear."}
    assert reports.chosen(studies, 0) == chosen
    # What the indexers saw counts for images: two findings are not one.
    doubled = [study(0, texts[0], ("pleural effusion/small",)), *studies[1:]]
    images = SUITES["single-finding-images"].chosen(doubled, 0)
    assert "0" not in {s.id for s in images}
    assert suite(None).chosen(studies, 0) == studies


def test_examples_of_different_findings() -> None:
    texts = ["The lungs are clear."] * 5 + ["The heart is enlarged."] * 2 + ["Effusion."]
    studies = [study(number, text) for number, text in enumerate(texts)]
    assert varied(studies, 4) == [0, 5, 7, 1]
    assert sorted(varied(studies, 20)) == list(range(8))


def measured(
    checkpoint_path: Path, settings: Evaluation, name: str
) -> tuple[ScriptedModel, dict[str, object]]:
    model = ScriptedModel(Checkpoint.open(checkpoint_path))
    config = settings.model_copy(update={"suite": name})
    return model, evaluate(checkpoint_path, config, lambda: model)


def test_reports_to_images(checkpoint_path: Path, settings: Evaluation) -> None:
    model, result = measured(checkpoint_path, settings, "single-finding-reports")
    assert {q.prompt.task for q in model.asked} == {Task.IMAGE}
    assert result["settings"]["suite"] == "single-finding-reports"
    assert "image.finding_auroc" in result["metrics"]
    assert not [k for k in result["metrics"] if k.startswith(("report.", "language."))]
    page = (settings.output / "report.html").read_text(encoding="utf-8")
    assert "Written of the real radiograph" not in page


def test_images_to_reports(checkpoint_path: Path, settings: Evaluation) -> None:
    model, result = measured(checkpoint_path, settings, "single-finding-images")
    assert {q.prompt.task for q in model.asked} == {Task.REPORT, Task.QUESTION}
    assert "report.recall.cardiomegaly" in result["metrics"]
    assert not [k for k in result["metrics"] if k.startswith("image.")]


def test_instructions_need_no_radiograph(
    checkpoint_path: Path, settings: Evaluation, tmp_path: Path
) -> None:
    absent = settings.model_copy(
        update={
            "judge": tmp_path / "none",
            "data": settings.data.model_copy(update={"manifest": tmp_path / "none.jsonl"}),
        }
    )
    model, result = measured(checkpoint_path, absent, "instructions")
    assert not model.asked
    assert {k.partition(".")[0] for k in result["metrics"]} == {"language", "instructions"}
    assert "Held-out instructions that are followed" in (
        settings.output / "evaluation.md"
    ).read_text(encoding="utf-8")


def test_unknown_suites_are_refused(tmp_path: Path) -> None:
    file = Path(__file__).resolve().parents[3] / "training/configs/evaluate-demo.toml"
    with pytest.raises(ConfigError, match="suite"):
        read_config(file, Evaluation, ["suite=reports"])
    assert read_config(file, Evaluation, ["suite=instructions"]).suite == "instructions"
