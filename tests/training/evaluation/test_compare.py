"""Two finished evaluations against each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.training.evaluation.conftest import read

from llmcxr_training.__main__ import main
from llmcxr_training.data import DataError
from llmcxr_training.evaluation.compare import compare

Finished = tuple[Path, Path]


def test_what_differs_and_what_does_not(finished: Finished, tmp_path: Path) -> None:
    result = compare(*finished, tmp_path / "out", permutations=200, folds=5)
    figures = result["figures"]
    assert set(figures) >= {
        "report.label_micro_f1",
        "report.label_macro_f1_present_uncertain_positive",
        "report.bleu4",
        "report.rouge_l",
        "findings.auroc.macro",
        "findings.brier.macro",
        "image.fd_judge",
        "image.kid_judge",
        "image.precision",
        "image.finding_auroc",
        "vqgan.psnr_db",
        "vqgan.judge_auroc_reconstructed",
        "language.wikitext2_ppl_after",
        "instructions.passed",
    }
    for key, entry in figures.items():
        assert 0 < entry["p"] <= entry["p_holm"] <= 1, key
        change = entry["second"] - entry["first"]
        assert entry["difference"]["value"] == pytest.approx(change), key
    # Both drew the same images: nothing to tell apart.
    same = figures["image.fd_judge"]
    assert (same["difference"]["value"], same["p"]) == (0.0, 1.0)
    assert same["verdict"] == "no difference shown"
    # A third of the hearts is enlarged; the other sentence is a third of all reports.
    reports = figures["report.rouge_l"]
    assert reports["first"] != reports["second"]
    values = read(finished[1] / "metrics.json")
    assert reports["second"] == pytest.approx(values["report.rouge_l"]["value"], abs=1e-6)

    assert read(tmp_path / "out" / "compare.json") == json.loads(json.dumps(result))
    table = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert "| report.rouge_l |" in table
    assert "200 exchanges" in table
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "data:image/svg+xml;base64," in page
    assert "http" not in page


def test_a_real_difference_is_significant(finished: Finished, tmp_path: Path) -> None:
    better = tmp_path / "better"
    shutil.copytree(finished[0], better)
    path = better / "cases.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    copied = [r | ({"written": r["real"]} if "real" in r else {}) for r in records]
    path.write_text("".join(json.dumps(record) + "\n" for record in copied))
    entry = compare(finished[0], better, tmp_path / "out", permutations=500)["figures"]
    assert entry["report.rouge_l"]["verdict"] == "second is better"
    assert entry["report.rouge_l"]["difference"]["low"] > 0
    back = compare(better, finished[0], tmp_path / "out", permutations=500)["figures"]
    assert back["report.rouge_l"]["verdict"] == "first is better"


def changed(folder: Path, to: Path, **settings: object) -> Path:
    """A copy with other settings."""
    shutil.copytree(folder, to)
    path = to / "evaluation.json"
    content = json.loads(path.read_text())
    content["settings"] |= settings
    path.write_text(json.dumps(content))
    return to


def test_different_data_is_refused(finished: Finished, tmp_path: Path) -> None:
    first, second = finished
    for name, value in (("cases", "other"), ("split", "val"), ("suite", "instructions")):
        other = changed(second, tmp_path / name, **{name: value})
        with pytest.raises(DataError, match=f"differ in: {name}"):
            compare(first, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_judge_leaves_its_figures_out(finished: Finished, tmp_path: Path) -> None:
    other = changed(finished[1], tmp_path / "other", judge="0" * 64)
    result = compare(finished[0], other, tmp_path / "out", permutations=20)
    assert not [key for key in result["figures"] if "judge" in key or key.startswith("image.")]
    assert "judges differ" in (tmp_path / "out" / "compare.md").read_text()


def test_another_text_leaves_perplexity_out(finished: Finished, tmp_path: Path) -> None:
    other = changed(finished[1], tmp_path / "other", language={"text": "other.txt"})
    result = compare(finished[0], other, tmp_path / "out", permutations=20)
    assert "language.wikitext2_ppl_after" not in result["figures"]
    assert "instructions.passed" in result["figures"]


def test_unfinished_evaluations(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="finished"):
        compare(tmp_path / "none", finished[1], tmp_path / "out")
    old = changed(finished[1], tmp_path / "old")
    (old / "cases.npz").unlink()
    with pytest.raises(DataError, match="cases"):
        compare(finished[0], old, tmp_path / "out")


def test_the_command(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--compare", *map(str, finished), "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["llmcxr-train", "evaluate", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "| report.rouge_l |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["llmcxr-train", "evaluate"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "a checkpoint directory is needed" in capsys.readouterr().err
