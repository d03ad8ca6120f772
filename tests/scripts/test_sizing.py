"""The arithmetic of docs/scaling.md, and that the document shows what the script prints."""

from __future__ import annotations

import json
import math
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from llmcxr_service.vllm_command import kv_bytes_per_token

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sizing() -> ModuleType:
    spec = spec_from_file_location("llmcxr_sizing_script", ROOT / "scripts" / "sizing.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(sizing):
    return sizing.Model("m", parameters=1e9, layers=10, kv_heads=2, head_dim=50)


@pytest.fixture
def device(sizing):
    return sizing.Device("d", bytes_per_second=1e12, flops=1e14, memory=10e9)


def test_keys_and_values_of_a_token(model):
    assert model.kv_bytes_per_token(2) == 2 * 10 * 2 * 50 * 2


def test_keys_and_values_as_the_service_reckons_them(sizing):
    demo = sizing.MODELS[0]
    config = {
        "num_hidden_layers": demo.layers,
        "num_key_value_heads": demo.kv_heads,
        "num_attention_heads": 9,
        "head_dim": demo.head_dim,
    }
    assert demo.kv_bytes_per_token(4) == kv_bytes_per_token(config, "float32")


def test_one_sequence_is_bound_by_memory(sizing, model, device):
    step = sizing.step_seconds(model, device, 1, context=0) - sizing.HOST_SECONDS
    assert step == pytest.approx(2e9 / 1e12)


def test_many_sequences_are_bound_by_arithmetic(sizing, model, device):
    step = sizing.step_seconds(model, device, 1000, context=0) - sizing.HOST_SECONDS
    assert step == pytest.approx(2 * 1e9 * 1000 / 1e14)


def test_more_sequences_never_give_fewer_tokens_a_second(sizing):
    for model in sizing.MODELS:
        for device in sizing.DEVICES:
            rates = [n / sizing.step_seconds(model, device, n, 300) for n in (1, 2, 4, 8, 64, 256)]
            assert rates == sorted(rates)


def test_sequences_in_memory(sizing, model, device):
    # 80 % of 10 GB less 2 GB of weights, 4 kB a token.
    assert sizing.sequences_in_memory(model, device, 1000) == int(6e9 / 4e6)
    large = sizing.Model("l", parameters=1e11, layers=1, kv_heads=1, head_dim=1)
    assert sizing.sequences_in_memory(large, device, 1) == 0


def test_a_shared_beginning_costs_nothing(sizing, model, device):
    whole = sizing.answer_seconds(model, device, sizing.Work(300, 10), 4)
    kept = sizing.answer_seconds(model, device, sizing.Work(300, 10, shared=100), 4)
    assert whole - kept == pytest.approx(2 * 1e9 * 100 * 4 / 1e14)


def test_devices_for_a_region(sizing):
    # 86,400 a day is one a second, three at the peak; one device gives two, of which a half.
    assert sizing.devices_needed(86_400, 2.0, peak=3.0, use=0.5) == 3
    assert sizing.devices_needed(1, 2.0, peak=3.0, use=0.5) == 1


def test_an_image_is_as_long_as_the_vocabulary_says(sizing):
    manifest = json.loads((ROOT / "models" / "demo" / "manifest.json").read_text())
    assert sizing.IMAGE.answer == manifest["vocabulary"]["image_length"]


def test_numbers_have_two_digits(sizing):
    assert [sizing._number(x) for x in (0.0303, 1.7, 36.2, 741.0, 7_512_345)] == [
        "0.030",
        "1.7",
        "36",
        "740",
        "7,500,000",
    ]


def test_the_document_shows_what_is_printed(sizing):
    text = (ROOT / "docs" / "scaling.md").read_text()
    for table in sizing.tables(0.4, [300, 3_000, 30_000, 300_000], 3.0, 0.6).split("\n\n"):
        assert table in text


def test_weights_of_the_demo_are_its_blocks_and_output_layer(sizing):
    blocks = 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    assert sizing.MODELS[0].parameters == pytest.approx(blocks + 576 * 50_176, rel=0.02)
    assert math.isfinite(sizing.MODELS[0].weight_bytes(2))
