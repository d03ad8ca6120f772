"""The terms that buy structure: perceptual, clinical, texture, the discriminator's features."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from llmcxr_training import vqgan_losses as losses
from llmcxr_training.discriminator import PatchDiscriminator
from llmcxr_training.weight_average import WeightAverage


def test_perceptual_distance_is_that_of_directions() -> None:
    one = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    same, across, against = (
        torch.tensor(v).view(1, 2, 1, 1) for v in ([9.0, 0.0], [0.0, 0.1], [-1.0, 0.0])
    )
    assert float(losses.perceptual_distance([one], [same])) == pytest.approx(0.0)
    assert float(losses.perceptual_distance([one], [across])) == pytest.approx(2.0)
    # The mean of the layers, however many channels or positions they have.
    both = losses.perceptual_distance([one, one.expand(1, 2, 4, 4)], [across, against])
    assert float(both) == pytest.approx((2 + 4) / 2)


def test_clinical_distance_is_relative_and_of_the_deepest_maps() -> None:
    shallow, deep = torch.rand(2, 3, 8, 8), torch.full((2, 5, 2, 2), -4.0)
    distance = losses.clinical_distance([shallow, deep], [shallow + 1, deep + 1])
    assert float(distance) == pytest.approx(1 / 4)
    tenfold = losses.clinical_distance([10 * deep], [10 * (deep + 1)])
    assert float(tenfold) == pytest.approx(1 / 4)


def test_feature_matching_moves_the_reconstruction_only() -> None:
    discriminator = PatchDiscriminator(1).eval().requires_grad_(False)
    real, fake = (torch.rand(1, 1, 32, 32).requires_grad_() for _ in range(2))
    maps = discriminator.maps(real)
    torch.testing.assert_close(maps[-1], discriminator(real))
    assert len(maps) == 5
    assert losses.feature_matching_loss(maps, maps).item() == 0.0
    losses.feature_matching_loss(maps, discriminator.maps(fake)).backward()
    assert real.grad is None
    assert float(fake.grad.abs().sum()) > 0


def test_fine_structure_is_hardly_seen_through_a_blur() -> None:
    lines = torch.cos(torch.arange(64) * (2 * torch.pi / 4)).expand(1, 2, 64, 64)
    wide = torch.cos(torch.arange(64) * (2 * torch.pi / 32)).expand(1, 2, 64, 64)
    seen = losses.blurred(torch.cat([lines, wide]), 1.5)
    assert seen.shape == (2, 2, 64, 64)
    # A Gaussian of s pixels leaves exp(-2 (pi s / w)^2) of a wave of w pixels.
    inner = seen[..., 8:-8].abs().amax(dim=(1, 2, 3))
    assert inner[0] == pytest.approx(0.0622, abs=0.01)
    assert inner[1] == pytest.approx(0.9576, abs=0.01)
    assert losses.blurred(lines, 0.0) is lines


def test_texture_loss_dislikes_blur_and_grids_but_not_a_small_shift() -> None:
    waves = torch.sin(torch.arange(64.0) * 2 * torch.pi / 16)
    picture = 0.2 * waves.view(1, 1, 1, 64) + 0.2 * waves.view(1, 1, 64, 1)
    blurred = F.avg_pool2d(picture, 9, 1, 4, count_include_pad=False)
    grid = picture.clone()
    grid[..., ::2] += 0.1
    moved = picture.roll(2, dims=-1)
    of = {
        name: float(losses.texture_loss(picture, other))
        for name, other in {"same": picture, "blur": blurred, "grid": grid, "moved": moved}.items()
    }
    assert of["same"] == 0.0
    assert of["blur"] > 3 * of["moved"]
    assert of["grid"] > 3 * of["moved"]
    # What the eye finds small, L1 does not.
    assert losses.reconstruction_loss(picture, moved) > losses.reconstruction_loss(picture, grid)


def test_texture_loss_has_a_gradient_where_there_is_nothing() -> None:
    fake = torch.zeros(1, 1, 32, 32, requires_grad=True)
    losses.texture_loss(torch.rand(1, 1, 32, 32), fake + 0.0).backward()
    assert fake.grad.isfinite().all()


def test_the_average_is_a_running_mean() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    average = WeightAverage(network, decay=0.5)
    for step, value in enumerate((3.0, 5.0), start=100):
        network.weight.data.fill_(value)
        average.update(network, step)
    assert average.network.weight.item() == pytest.approx(0.5 * (0.5 * 1 + 0.5 * 3) + 0.5 * 5)
    assert not average.network.weight.requires_grad
    assert network.weight.requires_grad


def test_the_average_forgets_the_first_steps_and_copies_what_is_not_trained() -> None:
    network = nn.Linear(1, 1)
    network.bias.requires_grad_(False)
    average = WeightAverage(network, decay=0.999)
    before = average.network.weight.item()
    network.weight.data.fill_(before + 1)
    network.bias.data.fill_(7.0)
    average.update(network, 0)
    assert average.network.weight.item() == pytest.approx(before + 0.9)
    assert average.network.bias.item() == 7.0
    other = WeightAverage(nn.Linear(1, 1), decay=0.0)
    other.load_state_dict(average.state_dict())
    assert other.network.weight.item() == average.network.weight.item()
