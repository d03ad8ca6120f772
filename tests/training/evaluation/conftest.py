"""A tiny checkpoint, judge and data set, and a language model that answers from a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.training.conftest import (
    FINDINGS,
    DataSet,
    config_maker,
    write_lines,
    write_record,
)

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.judge import Judge, JudgeConfig
from llmcxr_models.prompt import Task
from llmcxr_training.datasets import JsonlData
from llmcxr_training.evaluation.answers import LogProbabilities, Question, TokenIds
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation, Language
from llmcxr_training.release import publish
from llmcxr_training.run_state import write_json
from llmcxr_training.stage import finetune

JUDGED = JudgeConfig(
    ("No Finding", "Cardiomegaly", "Pleural Effusion"),
    input_size=32,
    widths=(8, 16),
    blocks=1,
    norm_groups=4,
)


class ScriptedModel:
    """Speaks token ids: writes the given text, and draws codes that depend on the seed.

    Args:
        checkpoint: whose vocabulary.
        text: every report.
        answers: it stops after so many, as if it was killed; None for all.
        image_length: of what it draws; None is right.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        text: str = "Findings: The heart is enlarged. Impression: Cardiomegaly.",
        *,
        answers: int | None = None,
        image_length: int | None = None,
    ) -> None:
        self._vocabulary = checkpoint.manifest.vocabulary
        self._report = (
            *checkpoint.load_tokenizer().encode_text(text),
            *self._vocabulary.stop_token_ids,
        )
        self._left = answers
        self._image_length = image_length
        self.asked: list[Question] = []

    def generate(self, questions: Sequence[Question]) -> Iterator[tuple[int, TokenIds]]:
        # The last first: answers come in any order.
        for number in reversed(range(len(questions))):
            if self._left == 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            self.asked.append(questions[number])
            yield number, self._answer(questions[number])

    def log_probabilities(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[int, LogProbabilities]]:
        """Of yes and no: depends on the image and the question, and on nothing else."""
        for number in reversed(range(len(questions))):
            self.asked.append(questions[number])
            yes = sum(questions[number].prompt.token_ids) % 7 - 3.0
            yield number, (yes, 0.0)

    def _answer(self, question: Question) -> TokenIds:
        if question.prompt.task is Task.REPORT:
            return self._report
        ids = self._vocabulary.image_token_ids
        length = self._image_length or self._vocabulary.image_length
        generator = torch.Generator().manual_seed(question.seed)
        drawn = torch.randint(ids.start, ids.stop, (length,), generator=generator)
        return tuple(drawn.tolist())


@pytest.fixture(scope="session")
def evaluated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of train, val and test patients; two radiographs without a report."""
    folder = tmp_path_factory.mktemp("evaluated")
    splits = ["train"] * 12 + ["val"] * 14 + ["test"] * 20
    records = [write_record(folder, n, split=split) for n, split in enumerate(splits)]
    records += [
        write_record(folder, 46, split="test", findings="", impression="", labels=None),
        write_record(folder, 47, split="test", view="lateral"),
    ]
    write_lines(folder / "manifest.jsonl", records)
    text = " ".join(sentence for row in FINDINGS for sentence in row[:2])
    for name in ("val.txt", "test.txt"):
        (folder / name).write_text(f"{text} {name} " * 20)
    return folder / "manifest.jsonl"


@pytest.fixture(scope="session")
def checkpoint_path(
    tmp_path_factory: pytest.TempPathFactory, data_set: DataSet, base_folder: Path
) -> Path:
    """One step of every weight: a whole checkpoint with a language model."""
    folder = tmp_path_factory.mktemp("trained")
    config = config_maker(folder, data_set, base_folder)(lora=None, steps=1)
    finetune(config)
    publish(config, folder / "checkpoint", name="tiny", version="0.0.1", max_model_len=400)
    return folder / "checkpoint"


@pytest.fixture(scope="session")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge that has learnt nothing."""
    folder = tmp_path_factory.mktemp("judge")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(Judge(JUDGED).state_dict(), folder / "judge.safetensors")
    how = {"pipeline": "display", "geometry": "squash", "image_size": 32}
    write_json(folder / "judge.json", {"judge": JUDGED.to_dict(), "preprocessing": how})
    return folder


@pytest.fixture
def settings(
    tmp_path: Path, evaluated_data: Path, judge_folder: Path, base_folder: Path
) -> Evaluation:
    return settings_of(tmp_path / "results", evaluated_data, judge_folder, base_folder)


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    checkpoint_path: Path,
    evaluated_data: Path,
    judge_folder: Path,
    base_folder: Path,
) -> tuple[Path, Path]:
    """Results of two writers on the same radiographs: one that calls every heart enlarged, and
    one that calls every patient well.
    """
    folder = tmp_path_factory.mktemp("finished")
    checkpoint = Checkpoint.open(checkpoint_path)
    texts = {"ill": "The heart is enlarged. Cardiomegaly.", "well": "No acute abnormality."}
    for name, text in texts.items():
        config = settings_of(folder / name, evaluated_data, judge_folder, base_folder)
        model = ScriptedModel(checkpoint, text)
        evaluate(checkpoint_path, config, lambda model=model: model)
    return folder / "ill", folder / "well"


def settings_of(output: Path, data: Path, judge: Path, base: Path) -> Evaluation:
    """An evaluation of drawn pictures."""
    folder = data.parent
    return Evaluation(
        data=JsonlData(manifest=data),
        judge=judge,
        base=base,
        language=Language(
            test=folder / "test.txt", val=folder / "val.txt", window=64, stride=32, max_tokens=400
        ),
        output=output,
        marginal_images=8,
        resamples=20,
        folds=5,
        neighbours=3,
        least_positives=3,
        instruction_tokens=4,
        device="cpu",
        precision="float32",
    )


def read(path: Path) -> dict[str, dict[str, float]]:
    """A JSON object."""
    content: dict[str, dict[str, float]] = json.loads(path.read_text())
    return content
