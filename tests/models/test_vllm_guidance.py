"""The logits processor inside vLLM: which row, which place, how much. No model is loaded."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmcxr_models.finding_tilt import TABLES, FindingTilt
from llmcxr_models.guidance_request import LOGITS_PROCESSOR, write_request

vllm = pytest.importorskip("vllm", reason="vLLM is not installed")

from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality  # noqa: E402

from llmcxr_models.vllm_guidance import FindingGuidance  # noqa: E402

PLACES, CODES, OFFSET = 4, 8, 10
WEIGHTS = (1.0, -0.3)


@pytest.fixture
def tilt() -> FindingTilt:
    rng = np.random.default_rng(0)
    frequencies = rng.random((PLACES, CODES))
    return FindingTilt(
        ("Cardiomegaly", "Fracture"),
        rng.normal(size=(2, PLACES, 3)).astype(np.float32),
        rng.normal(size=(CODES, 3)).astype(np.float32),
        (frequencies / frequencies.sum(axis=1, keepdims=True)).astype(np.float32),
    )


@pytest.fixture
def processor(tilt: FindingTilt, tmp_path: Path) -> FindingGuidance:
    (tmp_path / TABLES).parent.mkdir()
    tilt.save(tmp_path / TABLES, OFFSET)
    config = SimpleNamespace(model_config=SimpleNamespace(model=str(tmp_path)))
    return FindingGuidance(config, torch.device("cpu"), False)


def asking(weights=WEIGHTS, strength=0.4):
    return SimpleNamespace(extra_args=write_request(weights, strength))


def update(processor, *, added=(), removed=(), moved=()):
    processor.update_state(BatchUpdate(3, removed=removed, added=added, moved=moved))


def applied(processor, rows=3):
    return processor.apply(torch.zeros(rows, OFFSET + CODES + 2)).numpy()


def expected(tilt, place, weights=WEIGHTS, strength=0.4):
    return tilt.towards(np.array([weights]), strength)[0, place]


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=5e-3)


def test_the_name_that_vllm_is_given_is_its():
    module, _, name = LOGITS_PROCESSOR.partition(":")
    assert (FindingGuidance.__module__, FindingGuidance.__name__) == (module, name)


def test_each_token_leans_as_its_place_says(processor, tilt):
    drawn = []
    update(processor, added=[(1, asking(), [1, 2], drawn)])
    for place in range(PLACES):
        logits = applied(processor)
        close(logits[1, OFFSET : OFFSET + CODES], expected(tilt, place))
        assert not logits[[0, 2]].any()
        assert not logits[1, :OFFSET].any()
        assert not logits[1, OFFSET + CODES :].any()
        drawn.append(OFFSET)
        processor.update_state(None)
    assert not applied(processor).any()  # whatever follows is no image


def test_requests_have_their_own_places_and_wishes(processor, tilt):
    other = ((0.0, 1.0), 0.9)
    update(processor, added=[(0, asking(), [], [OFFSET] * 3), (2, asking(*other), [], [])])
    logits = applied(processor)[:, OFFSET : OFFSET + CODES]
    close(logits[0], expected(tilt, 3))
    close(logits[2], expected(tilt, 0, *other))
    assert not logits[1].any()


def test_rows_move_and_end(processor, tilt):
    update(processor, added=[(0, asking(), [], []), (1, asking(strength=0.1), [], [OFFSET])])
    update(processor, moved=[(0, 1, MoveDirectionality.SWAP)])
    logits = applied(processor)[:, OFFSET : OFFSET + CODES]
    close(logits[1], expected(tilt, 0))
    close(logits[0], expected(tilt, 1, strength=0.1))
    update(processor, moved=[(1, 0, MoveDirectionality.UNIDIRECTIONAL)])
    logits = applied(processor)[:, OFFSET : OFFSET + CODES]
    close(logits[0], expected(tilt, 0))
    assert not logits[1].any()
    update(processor, removed=[0])
    assert not applied(processor).any()


def test_a_row_without_wishes_takes_the_place_of_one_with(processor):
    update(processor, added=[(0, asking(), [], [])])
    update(processor, added=[(0, SimpleNamespace(extra_args=None), [], [])])
    assert not applied(processor).any()
    update(processor, added=[(0, asking(strength=0.0), [], []), (1, asking((1.0,)), [], [])])
    assert not applied(processor).any()


def test_what_is_no_guidance_is_refused(processor):
    with pytest.raises(ValueError, match="finding_weights"):
        processor.validate_params(asking(()))
    processor.validate_params(SimpleNamespace(extra_args=None))
    assert not processor.is_argmax_invariant()
