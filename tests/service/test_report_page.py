"""The page's words: every script drawn, nothing as boxes, lines within the page."""

import numpy as np
import pytest
from tests import drafts

from llmcxr_models.report import Report
from llmcxr_service.errors import NotAcceptable
from llmcxr_service.outputs.legible import make_legible
from llmcxr_service.outputs.page_text import paragraphs
from llmcxr_service.outputs.report_page import report_pages
from llmcxr_service.outputs.text_layout import is_right_to_left, wrap
from llmcxr_service.outputs.typeface import Typeface

PLAIN = Typeface(22, bold=False, language="en")
HAS_CJK = PLAIN.face_of("心") is not None
NO_CJK = "no font with East Asian glyphs is installed (Debian: fonts-noto-cjk)"


@pytest.mark.parametrize("language", sorted(drafts.LANGUAGES.keys() - drafts.CJK))
def test_these_scripts_need_no_font_of_the_machine(language):
    for text in drafts.LANGUAGES[language]:
        assert make_legible(text, PLAIN).missing == 0
    assert len(report_pages(drafts.draft(language))) == 1


@pytest.mark.skipif(not HAS_CJK, reason=NO_CJK)
@pytest.mark.parametrize("language", sorted(drafts.CJK))
def test_east_asian_scripts_with_a_font(language):
    for text in drafts.LANGUAGES[language]:
        assert make_legible(text, Typeface(22, bold=False, language=language)).missing == 0
    assert len(report_pages(drafts.draft(language))) == 1


def test_a_character_without_a_glyph_is_spelt_out():
    legible = make_legible("a \U000e0fff b", PLAIN)
    assert legible == ("a [U+E0FFF] b", 1, 3)
    clear = "The lungs are clear. " * 5
    page = report_pages(drafts.draft(report=Report(clear + "\U000e0fff")))
    assert not np.array_equal(page, report_pages(drafts.draft(report=Report(clear))))


def test_a_script_without_a_font_is_refused():
    with pytest.raises(NotAcceptable) as caught:
        report_pages(drafts.draft(report=Report("\U000e0fff\U000e0ffe", "")))
    assert caught.value.reason == "no-font"


@pytest.mark.parametrize("language", sorted(drafts.LANGUAGES.keys() - drafts.CJK))
def test_lines_fit_and_hold_every_word(language):
    text = " ".join([drafts.LANGUAGES[language][1]] * 9)
    lines = wrap(text, PLAIN, 500)
    assert " ".join(lines).split() == text.split()
    assert max(PLAIN.width(line) for line in lines) <= 500 * 1.02


def test_a_word_wider_than_the_page_is_cut():
    lines = wrap("x" * 300, PLAIN, 200)
    assert "".join(lines) == "x" * 300
    assert max(PLAIN.width(line) for line in lines) <= 200


@pytest.mark.skipif(not HAS_CJK, reason=NO_CJK)
def test_east_asian_lines_break_between_characters_but_not_before_a_full_stop():
    lines = wrap("心影增大。" * 30, PLAIN, 250)
    assert len(lines) > 5
    assert not any(line.startswith("。") for line in lines)


def test_direction_is_the_first_strong_letters():
    assert is_right_to_left("(1) القلب normal")
    assert not is_right_to_left("12 normal القلب")
    assert not is_right_to_left("12")


def test_newlines_break_and_paragraphs_stay():
    assert wrap("a\n\nb", PLAIN, 500) == ["a", "", "b"]


def test_the_page_says_whose_and_what():
    words = "\n".join(part.text for part in paragraphs(drafts.draft("ja")))
    assert "Patient: Yamada, Tarou (山田, 太郎, やまだ, たろう)" in words
    assert "Born: 1951-02-03" in words
    assert "not reviewed by a physician" in words
    assert f"sha256:{drafts.MODEL.digest}" in words
    assert "pleural effusion" in words
    assert "not calibrated" in words
    empty = paragraphs(drafts.draft(report=Report()))
    assert any("wrote no text" in part.text for part in empty)
