"""What a judge learns beside its findings: the index terms' headings, and the view.

Some hundred positives of a finding teach a network little of what radiographs look like; forty
more questions about the same pictures do (Caruana, Machine Learning 28, 1997). They are asked in
training only: an exported judge knows nothing of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmcxr_training.balanced_loss import balanced_loss, positive_weights
from llmcxr_training.data import Study

LATERAL = "lateral view"

_NOT_INDEXED = "no indexing"


def auxiliary_questions(studies: Sequence[Study], least_positives: int) -> tuple[str, ...]:
    """Headings that at least `least_positives` of `studies` have, in order, and the view."""
    counts = Counter(heading for study in studies for heading in _headings(study))
    frequent = [h for h, n in counts.items() if n >= least_positives and h != _NOT_INDEXED]
    return (*sorted(frequent), LATERAL)


def auxiliary_table(studies: Sequence[Study], questions: Sequence[str]) -> NDArray[np.float32]:
    """Targets (N, questions) in {0, 1}; NaN for the headings of a study that nobody indexed."""
    rows = np.array([[float(q in _headings(s)) for q in questions] for s in studies], np.float32)
    rows = rows.reshape(len(studies), len(questions))
    indexed = np.array([bool(_headings(s) - {_NOT_INDEXED}) for s in studies], bool)
    rows[~indexed] = math.nan
    for column, question in enumerate(questions):
        if question == LATERAL:
            rows[:, column] = [not study.is_frontal for study in studies]
    return rows


class AuxiliaryQuestions(nn.Module):
    """A linear layer from a judge's features to the answers, and its loss.

    Args:
        studies: all, row by row of the pixel cache.
        train_rows: those that are learnt from.
        feature_size: length of a feature vector.
        least_positives: rarer headings are not asked for.
        largest_positive_weight: see `positive_weights`.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        train_rows: Sequence[int],
        feature_size: int,
        *,
        least_positives: int,
        largest_positive_weight: float,
    ) -> None:
        super().__init__()
        questions = auxiliary_questions([studies[i] for i in train_rows], least_positives)
        self.targets = auxiliary_table(studies, questions)
        self.weights = positive_weights(self.targets[list(train_rows)], largest_positive_weight)
        self.answers = nn.Linear(feature_size, len(questions))

    def loss(self, features: Tensor, rows: Sequence[int]) -> Tensor:
        """Of features (B, D) of the studies `rows`."""
        logits = self.answers(features).float()
        targets = torch.from_numpy(self.targets[list(rows)]).to(logits.device)
        return balanced_loss(logits, targets, self.weights.to(logits.device))


def _headings(study: Study) -> frozenset[str]:
    """First parts of the index terms: `opacity` of `opacity/lung/base`."""
    return frozenset(term.split("/")[0].strip() for term in study.labels)
