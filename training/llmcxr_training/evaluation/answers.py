"""Questions to the language model and its answers, kept as they come.

An answer is kept under a digest of everything it depends on, so that a killed evaluation goes on
where it was and changed settings never meet old answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from tqdm import tqdm

from llmcxr_models.guidance import Guidance
from llmcxr_models.prompt import Prompt
from llmcxr_training.data import DataError

TokenIds = tuple[int, ...]
LogProbabilities = tuple[float, ...]
"""Of each token id that a question allows, in their order; only differences mean something."""
_Answer = TypeVar("_Answer", TokenIds, LogProbabilities)


@dataclass(frozen=True)
class Question:
    """One prompt and how its answer is drawn.

    Attributes:
        prompt: with the constraint on its answer.
        temperature: 0 is greedy.
        top_p: nucleus sampling.
        seed: the same seed, the same answer, as far as the arithmetic allows.
        guidance: what an image leans towards; None for the model alone.
    """

    prompt: Prompt
    temperature: float
    top_p: float
    seed: int
    guidance: Guidance | None = None

    @property
    def key(self) -> str:
        """Digest of everything that the answer depends on, the model aside."""
        constraint = self.prompt.constraint
        said = [
            self.prompt.token_ids,
            repr(constraint.allowed_token_ids),
            repr(constraint.forbidden_token_ids),
            constraint.min_tokens,
            constraint.max_tokens,
            constraint.stop_token_ids,
            self.temperature,
            self.top_p,
            self.seed,
        ]
        if self.guidance is not None:
            # Left out where there is none: answers that were kept before there was guidance stay.
            said += [self.guidance.weights, self.guidance.strength]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]


class Generator(Protocol):
    """A language model that works on many prompts at once. Token ids in both directions."""

    def generate(self, questions: Sequence[Question]) -> Iterator[tuple[int, TokenIds]]:
        """Number and answer of each question, in the order in which they are finished."""
        ...

    def log_probabilities(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[int, LogProbabilities]]:
        """The same for questions that allow only some tokens as the next one, of each of them."""
        ...


class AnswerStore:
    """Answers of one checkpoint in a JSONL file, one line each.

    Args:
        path: made where it is missing. A half-written last line, left by a kill, is cut off.

    Raises:
        DataError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token_ids: dict[str, TokenIds] = {}
        self._log_probabilities: dict[str, LogProbabilities] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            path.write_bytes(whole)
        try:
            for line in whole.splitlines():
                record = json.loads(line)
                if "token_ids" in record:
                    self._token_ids[record["key"]] = tuple(map(int, record["token_ids"]))
                else:
                    values = record["log_probabilities"]
                    self._log_probabilities[record["key"]] = tuple(map(float, values))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} holds no answers") from error

    def answer(
        self,
        questions: Sequence[Question],
        generator: Callable[[], Generator],
        *,
        what: str = "answers",
    ) -> list[TokenIds]:
        """Answers of all `questions`; only the unknown ones are asked.

        Args:
            questions: whatever their number, all are handed over at once.
            generator: made only if something is to be asked: starting one is slow.
            what: for the progress bar.
        """
        known = self._token_ids
        self._complete(questions, known, "token_ids", lambda q: generator().generate(q), what)
        return [known[question.key] for question in questions]

    def log_probabilities(
        self,
        questions: Sequence[Question],
        generator: Callable[[], Generator],
        *,
        what: str = "answers",
    ) -> list[LogProbabilities]:
        """The same for `Generator.log_probabilities`."""
        known = self._log_probabilities
        name = "log_probabilities"
        self._complete(questions, known, name, lambda q: generator().log_probabilities(q), what)
        return [known[question.key] for question in questions]

    def _complete(
        self,
        questions: Sequence[Question],
        known: dict[str, _Answer],
        name: str,
        ask: Callable[[list[Question]], Iterator[tuple[int, _Answer]]],
        what: str,
    ) -> None:
        missing = [question for question in questions if question.key not in known]
        if not missing:
            return
        done = len(questions) - len(missing)
        progress = tqdm(total=len(questions), initial=done, desc=what, unit="answer")
        with progress, self._path.open("a", encoding="utf-8") as file:
            for number, answer in ask(missing):
                key = missing[number].key
                file.write(json.dumps({"key": key, name: answer}) + "\n")
                file.flush()
                known[key] = answer
                progress.update()
