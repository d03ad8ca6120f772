"""What the judge is made of: oriented gradients, the questions asked beside the findings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from llmcxr_models.oriented_gradients import channels, oriented_gradients
from llmcxr_models.report import Report
from llmcxr_training.auxiliary_targets import (
    LATERAL,
    AuxiliaryQuestions,
    auxiliary_questions,
    auxiliary_table,
)
from llmcxr_training.balanced_loss import positive_weights
from llmcxr_training.data import Study
from llmcxr_training.weight_average import WeightAverage


def study(*terms: str, view: str = "PA") -> Study:
    return Study("id", Path("x.png"), "train", view, "p", Report("", ""), labels=terms)


def ramp(across: float, down: float) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    return (0.5 * (across * x + down * y)).view(1, 1, 32, 32)


@pytest.mark.parametrize(
    ("across", "down", "direction"), [(1, 0, 0), (0, 1, 1), (-1, 0, 2), (0, -1, 3)]
)
def test_a_ramp_lies_in_its_own_direction(across: float, down: float, direction: int) -> None:
    cells = oriented_gradients(ramp(across, down), 4)
    assert cells.shape == (1, channels(4), 8, 8)
    middle = cells[0, :4, 2:-2, 2:-2]
    assert bool((middle.argmax(dim=0) == direction).all())
    assert float(middle.sum(dim=0).sub(middle[direction]).abs().max()) < 1e-5


def test_contrast_is_divided_out_and_kept_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 1, 32, 32, generator=generator) - 0.5
    weak, strong = oriented_gradients(noise, 8), oriented_gradients(2 * noise, 8)
    torch.testing.assert_close(weak[:, :8], strong[:, :8], rtol=0.2, atol=0.02)
    torch.testing.assert_close(2 * weak[:, 8], strong[:, 8])
    assert bool((strong[:, 9] > 1.5 * weak[:, 9]).all())


def test_gradients_of_a_flat_picture_are_finite() -> None:
    flat = torch.zeros(1, 1, 32, 32, requires_grad=True)
    oriented_gradients(flat, 8).sum().backward()
    assert flat.grad is not None
    assert bool(torch.isfinite(flat.grad).all())


def test_frequent_headings_and_the_view_are_asked_for() -> None:
    studies = [
        study("opacity/lung/base", "opacity/lung/hilum"),
        study("opacity", "aorta/tortuous"),
        study("no indexing"),
        study("no indexing", view="lateral"),
        study(view="lateral"),
    ]
    questions = auxiliary_questions(studies, least_positives=2)
    assert questions == ("opacity", LATERAL)
    expected = [[1, 0], [1, 0], [math.nan, 0], [math.nan, 1], [math.nan, 1]]
    np.testing.assert_array_equal(auxiliary_table(studies, questions), expected)
    assert auxiliary_questions(studies, least_positives=1)[0] == "aorta"


def test_only_the_train_split_decides_what_is_asked() -> None:
    studies = [study("opacity"), study("normal"), study("hernia"), study("hernia")]
    asked = AuxiliaryQuestions(studies, [0, 1], 3, least_positives=1, largest_positive_weight=8.0)
    assert asked.answers.out_features == 3
    loss = asked.loss(torch.zeros(2, 3), [0, 1])
    assert bool(torch.isfinite(loss))
    loss.backward()
    assert asked.answers.bias.grad is not None


def test_positive_weights_are_bounded() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, math.nan, 1]], np.float32)
    assert positive_weights(targets, 8.0).tolist() == pytest.approx([2.0, 2.0, 0.1])
    assert positive_weights(targets, 1.5).tolist() == pytest.approx([1.5, 1.5, 0.1])


def test_the_statistics_of_batch_normalisation_are_averaged() -> None:
    network = nn.BatchNorm1d(2)
    average = WeightAverage(network, 0.5)
    network(torch.full((4, 2), 3.0) + torch.arange(4.0).view(-1, 1))
    average.update(network, step=100)
    assert network.running_mean is not None
    assert average.network.running_mean is not None
    torch.testing.assert_close(average.network.running_mean, network.running_mean / 2)
    assert average.network.num_batches_tracked is not None
    assert int(average.network.num_batches_tracked) == 1
