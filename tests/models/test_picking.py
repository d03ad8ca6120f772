"""What a prompt wants, how far a judge's scores agree with it, and which image is picked."""

import pytest
import torch
from tests.judges import SMALL, drawn_judge

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.picking import Choice, Judgement, Picker, Wanted, agreement, read_wanted


@pytest.mark.parametrize(
    ("report", "present", "left_open"),
    [
        ("The heart is enlarged.", ("Cardiomegaly",), ()),
        ("No acute disease.", ("No Finding",), ()),
        ("Heart size is normal. No pleural effusion.", ("No Finding",), ()),
        ("Cardiomegaly with a small effusion.", ("Cardiomegaly", "Pleural Effusion"), ()),
        ("Possible small pleural effusion.", (), ("No Finding", "Pleural Effusion")),
        ("Cardiomegaly, possible effusion.", ("Cardiomegaly",), ("Pleural Effusion",)),
    ],
)
def test_what_is_wanted(report, present, left_open):
    wanted = read_wanted(report, SMALL.findings)
    assert (wanted.present, wanted.left_open) == (present, left_open)
    assert set(wanted.absent) == set(SMALL.findings) - {*present, *left_open}
    assert wanted.unseen == ()


def test_what_the_judge_does_not_know_is_a_doubt():
    wanted = read_wanted("Large left pneumothorax. Cardiomegaly.", SMALL.findings)
    assert wanted.unseen == ("Pneumothorax",)
    (doubt,) = Choice(wanted, ()).doubts
    assert "Pneumothorax" in doubt
    assert Choice(read_wanted("Cardiomegaly.", SMALL.findings), ()).doubts == ()


def test_every_finding_of_the_labeller_can_be_wanted():
    wanted = read_wanted("Cardiomegaly.", FINDINGS)
    assert wanted.present == ("Cardiomegaly",)
    assert "No Finding" in wanted.absent
    assert read_wanted("Cardiomegaly.", ("Gallstones",)).left_open == ("Gallstones",)


def test_agreement_by_hand():
    scores = {"No Finding": 0.1, "Cardiomegaly": 0.8, "Pleural Effusion": 0.3}
    wanted = read_wanted("Cardiomegaly.", list(scores))
    assert agreement(scores, wanted) == pytest.approx((0.8 + (0.9 + 0.7) / 2) / 2)
    doubtful = read_wanted("Possible effusion.", list(scores))
    assert agreement(scores, doubtful) == pytest.approx(1 - 0.8)  # nothing is affirmed
    assert agreement({"Edema": 0.4}, Wanted((), (), ("Edema",), ())) is None


@pytest.mark.parametrize(
    ("agreements", "best"), [((0.2, 0.9, 0.3), 1), ((0.5, 0.5), 0), ((None, None), 0)]
)
def test_the_best_is_the_first_of_equals(agreements, best):
    judgements = tuple(Judgement(value, {}) for value in agreements)
    assert Choice(Wanted((), (), (), ()), judgements).best == best


def test_nothing_to_go_by_is_said():
    (doubt,) = Choice(Wanted((), (), ("Edema",), ()), ()).doubts
    assert "first image" in doubt


def test_an_image_is_judged_alike_in_any_company():
    generator = torch.Generator().manual_seed(1)
    pictures = list(torch.rand(4, 1, 64, 64, generator=generator) * 2 - 1)
    picker = Picker(drawn_judge())
    together = picker.pick("Cardiomegaly.", pictures).judgements
    alone = [picker.pick("Cardiomegaly.", [picture]).judgements[0] for picture in pictures]
    assert list(together) == alone
    assert len({judgement.agreement for judgement in together}) == 4
