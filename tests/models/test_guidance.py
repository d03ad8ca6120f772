"""What a report asks the drawing to lean towards, and what a manifest may say of it."""

import math

import pytest

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.guidance import GuidanceConfig, guide
from llmcxr_models.guidance_request import read_request, write_request

CONFIG = GuidanceConfig(
    ("No Finding", "Cardiomegaly", "Pleural Effusion"), (0.6, 0.08, 0.05), strength=0.5
)


def test_what_is_affirmed_is_wanted_as_much_as_it_is_news():
    found = guide("The heart is enlarged. No pleural effusion.", CONFIG)
    assert found.towards == ("Cardiomegaly",)
    assert found.weights == pytest.approx((-0.6, 0.92, -0.05))
    assert found.strength == 0.5


def test_a_normal_report_asks_for_a_normal_image():
    found = guide("The heart is normal in size. The lungs are clear.", CONFIG)
    assert found.towards == ("No Finding",)
    assert found.weights == pytest.approx((0.4, -0.08, -0.05))


def test_what_is_uncertain_is_left_to_the_model():
    found = guide("The heart is enlarged. There may be a small pleural effusion.", CONFIG)
    assert found.weights[2] == 0.0


@pytest.mark.parametrize(
    ("report", "strength"),
    [
        ("There is a nodule in the right lung.", None),  # no table knows it
        ("There may be a small pleural effusion.", None),
        ("The heart is enlarged.", 0.0),
    ],
)
def test_nothing_to_lean_towards(report, strength):
    assert guide(report, CONFIG, strength) is None


def test_a_request_may_say_how_strongly():
    assert guide("The heart is enlarged.", CONFIG, 0.8).strength == 0.8


def test_a_request_to_vllm_and_back():
    guidance = guide("The heart is enlarged.", CONFIG)
    assert read_request(guidance.to_request()) == (list(guidance.weights), 0.5)
    assert read_request(None) == (None, 0.0)
    assert read_request({"of somebody else": 1}) == (None, 0.0)


@pytest.mark.parametrize(
    "extra",
    [
        write_request((), 1.0),
        write_request((1.0, math.nan), 1.0),
        write_request((1.0,), -1.0),
        write_request((1.0,), math.inf),
        {"finding_weights": [1.0]},
        {"guidance_strength": 1.0},
        {"finding_weights": ["much"], "guidance_strength": 1.0},
        {"finding_weights": [True], "guidance_strength": 1.0},
        {"finding_weights": 1.0, "guidance_strength": 1.0},
    ],
)
def test_a_request_that_says_nothing_is_refused(extra):
    with pytest.raises(ValueError, match="must be a"):
        read_request(extra)


def test_a_manifest_says_it_and_is_read():
    assert GuidanceConfig.from_dict(CONFIG.to_dict()) == CONFIG


@pytest.mark.parametrize(
    "changed",
    [
        {"findings": []},
        {"findings": ["Gout", "Cardiomegaly", "Pleural Effusion"]},
        {"prevalence": [0.1]},
        {"strength": 1.5},
        {"strength": "strong"},
        {"colour": "red"},
    ],
)
def test_a_manifest_that_says_something_else_is_refused(changed):
    with pytest.raises(InvalidCheckpoint, match="guidance"):
        GuidanceConfig.from_dict(CONFIG.to_dict() | changed)
