"""Reports whose agreement is known."""

from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_training.metrics.text import (
    bleu4,
    distinct_n,
    distinct_reports,
    label_table,
    rouge_l,
    text_metrics,
)

EFFUSION = "There is a small left pleural effusion. The heart is normal in size."
DOUBT = "Possible small left pleural effusion."
NORMAL = "The lungs are clear. No pleural effusion or pneumothorax."


def test_labels_of_both_policies() -> None:
    effusion = FINDINGS.index("Pleural Effusion")
    strict = label_table([EFFUSION, DOUBT, NORMAL])[:, effusion]
    lenient = label_table([EFFUSION, DOUBT, NORMAL], uncertain_is_positive=True)[:, effusion]
    assert strict.tolist() == [True, False, False]
    assert lenient.tolist() == [True, True, False]


def test_perfect_reports_score_one() -> None:
    reports = [EFFUSION, NORMAL, EFFUSION, NORMAL]
    found = text_metrics(reports, reports, resamples=20)
    for name in ("label_micro_f1", "bleu4", "rouge_l"):
        assert found[name].value == pytest.approx(1.0)
    # Two of fourteen observations occur.
    assert found["label_macro_f1"].value == pytest.approx(2 / 14)
    assert found["label_micro_f1"].n == 4


def test_label_f1_by_hand() -> None:
    real, generated = [EFFUSION, NORMAL, NORMAL], [EFFUSION, EFFUSION, DOUBT]
    found = text_metrics(generated, real, resamples=20)
    # Effusion: one hit, one too many. No finding: two missed. A doubtful effusion is neither.
    assert found["label_micro_f1"].value == pytest.approx(2 / (2 + 1 + 2))
    assert found["label_macro_f1"].value == pytest.approx((2 / 3) / 14)
    assert found["label_micro_f1_uncertain_positive"].value == pytest.approx(2 / (2 + 2 + 2))
    assert found["label_micro_f1"].low <= found["label_micro_f1"].value
    with pytest.raises(ValueError, match="as many"):
        text_metrics(generated, real[:2])


def test_bleu_is_sacrebleu_s_over_the_corpus() -> None:
    real = [EFFUSION, NORMAL, DOUBT]
    generated = [EFFUSION.replace("small", "large"), "The lungs are clear.", NORMAL]
    expected = BLEU(lowercase=True).corpus_score(generated, [real]).score / 100
    assert bleu4(generated, real, resamples=50).value == pytest.approx(expected)


def test_rouge_l_by_hand() -> None:
    found = rouge_l(["A b c d", "x", "", "the heart, THE HEART"], ["a c d", "y", "a", "The heart."])
    # Common subsequences of 3, 0, 0 and 2 words.
    assert found == pytest.approx([2 * 3 / 7, 0.0, 0.0, 2 * 2 / 6])


def test_diversity() -> None:
    assert distinct_n(["a b a b"], 1) == 0.5
    assert distinct_n(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct_n(["a", ""], 2) == 0.0
    assert distinct_reports(["No acute disease.", "no acute  disease", "Effusion."]) == (
        pytest.approx(2 / 3)
    )
    assert distinct_reports([]) == 0.0


def test_findings_that_occur_and_the_five() -> None:
    reports = [EFFUSION, NORMAL, EFFUSION, NORMAL]
    found = text_metrics(reports, reports, resamples=20)
    # "No Finding" and the effusion occur; of the five, the effusion alone.
    assert found["label_macro_f1_present"].value == pytest.approx(1.0)
    assert found["label_micro_f1_5"].value == pytest.approx(1.0)
    assert found["label_macro_f1_5"].value == pytest.approx(1 / 5)
    doubted = text_metrics([DOUBT] * 4, reports, resamples=20)
    assert doubted["label_micro_f1_5"].value == 0.0
    assert doubted["label_micro_f1_5_uncertain_positive"].value == pytest.approx(2 / 3)
