"""What the service chooses for the hardware it finds itself on."""

import pytest
import torch

from llmcxr_service import vision
from llmcxr_service.vision import choose_decode_dtype, choose_micro_batch

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "device", "has_bf16", "dtype"),
    [
        ("auto", CPU, True, torch.bfloat16),
        ("auto", CPU, False, torch.float32),
        ("auto", GPU, True, torch.float32),
        ("bfloat16", GPU, False, torch.bfloat16),
        ("float32", CPU, True, torch.float32),
    ],
)
def test_dtype_of_the_decoder(monkeypatch, name, device, has_bf16, dtype):
    monkeypatch.setattr(vision, "cpu_has_bf16", lambda: has_bf16)
    assert choose_decode_dtype(name, device) is dtype


def test_sizes_of_batches():
    assert choose_micro_batch(CPU, torch.float32) == 1
    assert choose_micro_batch(CPU, torch.bfloat16) == 4
    assert choose_micro_batch(GPU, torch.float32) == choose_micro_batch(GPU, torch.bfloat16) == 8
