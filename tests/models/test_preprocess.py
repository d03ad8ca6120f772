"""Radiograph to model pixels: geometry, range, and values that must not drift."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmcxr_models.preprocess import (
    Geometry,
    Preprocessing,
    resize,
    to_batch,
    to_grey8,
    to_pixels,
)
from llmcxr_models.radiograph import MediaType, Radiograph


def radiograph(height: int, width: int) -> Radiograph:
    """Brightness grows to the right and, more slowly, downwards."""
    right = np.linspace(0, 0.8, width, dtype=np.float32)[None, :]
    down = np.linspace(0, 0.2, height, dtype=np.float32)[:, None]
    return Radiograph(right + down, MediaType.PNG)


@pytest.mark.parametrize("geometry", Geometry)
@pytest.mark.parametrize("size", [(40, 30), (30, 40), (512, 300), (16, 16), (33, 1000)])
def test_shape_type_and_range(geometry: Geometry, size: tuple[int, int]) -> None:
    pixels = to_pixels(radiograph(*size), Preprocessing(geometry=geometry, image_size=16))
    assert pixels.shape == (1, 16, 16)
    assert pixels.dtype == torch.float32
    assert -1 <= pixels.min() <= pixels.max() <= 1


def test_three_channels_repeat_the_grey_value() -> None:
    pixels = to_pixels(radiograph(64, 64), Preprocessing(image_size=16, channels=3))
    assert pixels.shape == (3, 16, 16)
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[0], pixels[2])


def test_black_is_minus_one_and_white_is_one() -> None:
    for level, expected in ((0.0, -1.0), (1.0, 1.0), (0.5, 0.0)):
        flat = Radiograph(np.full((40, 50), level, np.float32), MediaType.PNG)
        assert torch.allclose(
            to_pixels(flat, Preprocessing(image_size=16)), torch.tensor(expected), atol=1e-6
        )


def test_squash_keeps_the_borders_and_centre_crop_cuts_them() -> None:
    pixels = np.zeros((64, 128), np.float32)
    pixels[:, :8] = pixels[:, -8:] = 1.0
    assert resize(pixels, Geometry.SQUASH, 32)[:, 0].min() > 0.9
    assert resize(pixels, Geometry.CENTRE_CROP, 32).max() < 0.01


def test_centre_crop_is_centred() -> None:
    pixels = np.zeros((64, 128), np.float32)
    pixels[:, 64:] = 1.0
    cropped = resize(pixels, Geometry.CENTRE_CROP, 64)
    np.testing.assert_allclose(cropped, 1 - cropped[:, ::-1], atol=1e-6)


@pytest.mark.parametrize(("margin", "left"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4)])
def test_odd_margins_are_cut_as_torchvision_cuts_them(margin: int, left: int) -> None:
    columns = np.arange(64 + margin, dtype=np.float32) / 128
    cropped = resize(np.tile(columns, (64, 1)), Geometry.CENTRE_CROP, 64)
    np.testing.assert_array_equal(cropped[0], columns[left : left + 64])


def test_the_right_size_is_left_alone() -> None:
    pixels = radiograph(16, 16).pixels
    np.testing.assert_array_equal(resize(pixels, Geometry.CENTRE_CROP, 16), pixels)


def test_shrinking_does_not_alias() -> None:
    """Columns of black and white become grey, not stripes."""
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (256, 128))
    small = resize(stripes, Geometry.SQUASH, 16)
    assert 0.45 < small.min() <= small.max() < 0.55


def test_grey8_is_the_way_back() -> None:
    levels = torch.arange(256, dtype=torch.float32).div(127.5).sub(1.0).view(1, 16, 16)
    np.testing.assert_array_equal(to_grey8(levels).ravel(), np.arange(256))
    assert to_grey8(torch.full((3, 4, 4), 7.0)).max() == 255


def test_batch() -> None:
    batch = to_batch([radiograph(20, 30), radiograph(90, 10)], Preprocessing(image_size=16))
    assert batch.shape == (2, 1, 16, 16)


def test_name() -> None:
    assert Preprocessing().name == "display/squash/256"


@pytest.mark.parametrize(
    ("geometry", "levels"),
    [
        (Geometry.SQUASH, [0, 3, 12, 29, 58, 101, 163, 245]),
        (Geometry.CENTRE_CROP, [1, 4, 13, 29, 56, 95, 150, 222]),
    ],
)
def test_golden_pixels(geometry: Geometry, levels: list[int]) -> None:
    """A checkpoint is only good for the pixels it was trained on: a change here breaks them all."""
    steep = Radiograph(radiograph(300, 200).pixels ** 3, MediaType.PNG)
    pixels = to_pixels(steep, Preprocessing(geometry=geometry, image_size=32))
    along = to_grey8(pixels).diagonal()[3::4].astype(int)
    np.testing.assert_allclose(along, levels, atol=1)
