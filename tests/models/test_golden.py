"""File -> codes -> token ids, pinned: serving and training must see the same forever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.preprocess import Preprocessing, to_batch
from llmcxr_models.prompt import PromptBuilder
from llmcxr_models.radiograph_file import read_radiograph
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_models.vqgan import VqGan

CODES = [12, 23, 21, 18, 25, 2, 19, 13, 0, 13, 9, 3, 13, 5, 22, 17]
IDS = {
    "smollm2": [
        269, 84, 82, 264, 198, 284, 295, 293, 290, 297, 274, 291, 285, 272, 285, 281, 275,
        285, 277, 294, 289, 198, 54, 81, 72, 83, 68, 258, 220, 81, 64, 67, 72, 78, 75, 78,
        70, 88, 220, 267, 79, 265, 83, 220, 69, 265, 220, 256, 72, 82, 266, 71, 68, 82, 83,
        220, 81, 64, 67, 72, 78, 70, 81, 64, 79, 71, 13, 198, 40, 77, 67, 72, 66, 64, 83,
        72, 78, 77, 25, 258, 220, 263, 270, 198, 269, 64, 82, 82, 72, 82, 83, 64, 77, 83,
        198,
    ],
    "dolly": [
        33, 68, 75, 78, 86, 220, 72, 82, 260, 77, 220, 259, 82, 83, 81, 84, 66, 83, 72, 78,
        77, 220, 256, 64, 83, 220, 67, 68, 82, 66, 81, 72, 65, 68, 82, 260, 220, 83, 64, 82,
        74, 13, 220, 54, 81, 72, 83, 68, 260, 220, 267, 82, 79, 78, 77, 82, 68, 220, 256,
        64, 83, 260, 79, 79, 81, 78, 79, 81, 72, 64, 83, 68, 75, 88, 266, 78, 76, 79, 75,
        68, 83, 68, 82, 258, 220, 267, 80, 84, 68, 82, 83, 13, 198, 198, 2, 2, 2, 220, 40,
        77, 82, 83, 81, 84, 66, 83, 72, 78, 77, 25, 198, 54, 81, 72, 83, 68, 258, 220, 81,
        64, 67, 72, 78, 75, 78, 70, 88, 220, 267, 79, 265, 83, 220, 69, 265, 220, 256, 72,
        82, 266, 71, 68, 82, 83, 220, 81, 64, 67, 72, 78, 70, 81, 64, 79, 71, 13, 198,
        40, 77, 67, 72, 66, 64, 83, 72, 78, 77, 25, 258, 220,
        263, 198, 198, 40, 77, 79, 84, 83, 25, 198, 27, 284, 295, 293, 290, 297, 274, 291, 285,
        272, 285, 281, 275, 285, 277, 294, 289, 29, 198, 198, 2, 2, 2, 220, 49, 68, 82, 79, 78,
        77, 82, 68, 25, 198,
    ],
}  # fmt: skip


@pytest.fixture
def image_tokenizer(vqgan: VqGan) -> ImageTokenizer:
    """Weights by a formula, so that no random generator can change them."""
    with torch.no_grad():
        for number, parameter in enumerate(vqgan.parameters()):
            if parameter.ndim == 1:  # norms and biases stay as they were made: about ones and zeros
                parameter.copy_(parameter.round())
                continue
            wave = torch.arange(parameter.numel(), dtype=torch.float64).mul(1.7 + number).sin()
            scale = (6.0 / parameter[0].numel()) ** 0.5
            parameter.copy_((wave * scale).view_as(parameter).to(parameter.dtype))
    return ImageTokenizer(vqgan)


def test_file_to_codes_to_ids(
    make_dicom: Any,
    image_tokenizer: ImageTokenizer,
    vocabulary: Vocabulary,
    tokenizer_json: Path,
) -> None:
    rows, columns = np.mgrid[0:96, 0:80]
    stored = (2000 + 1500 * np.sin(rows / 9) * np.cos(columns / 7)).astype(int)
    file = make_dicom(
        stored, PhotometricInterpretation="MONOCHROME1", WindowCenter=1900, WindowWidth=2500
    )
    pixels = to_batch([read_radiograph(file)], Preprocessing(image_size=16))
    codes = image_tokenizer.encode(pixels)[0].tolist()
    assert len(set(codes)) > 4
    assert codes == CODES
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)) * 1e-4
    assert image_tokenizer.encode(pixels + noise)[0].tolist() == CODES
    for template, expected in IDS.items():
        builder = PromptBuilder(template, vocabulary, TextTokenizer(tokenizer_json))
        assert list(builder.report(codes, indication="the lung").token_ids) == expected
