"""Piece by piece is the same as the whole, however it is cut."""

import random

import pytest

from llmcxr_models.incremental_text import IncrementalSections, IncrementalText, TrimmedText
from llmcxr_models.report import Report
from llmcxr_models.text_tokenizer import TextTokenizer

WORDS = (
    "Findings:",
    "findings",
    "IMPRESSION :",
    "Impress",
    "ion:",
    "impression\n",
    ":",
    " ",
    "  ",
    "\n",
    "heart",
    "f",
    "fi",
    "i",
    "The lungs are clear.",
    "é",
    "\u00a0",
    "\u0131mpression:",
    "finding\u017f:",
)


@pytest.fixture
def tokenizer(tokenizer_json):
    return TextTokenizer(tokenizer_json)


@pytest.mark.parametrize("seed", range(300))
def test_sections_are_those_of_the_whole_text(seed):
    dice = random.Random(seed)
    text = "".join(dice.choices(WORDS, k=dice.randint(0, 14)))
    given = {"findings": "", "impression": ""}

    def take(name, more):
        assert more
        given[name] += more

    sections = IncrementalSections(take)
    for piece in cut(text, dice):
        sections.feed(piece)
    sections.finish()
    report = Report.parse(text)
    assert given == {"findings": report.findings, "impression": report.impression}


def test_a_section_is_given_as_it_comes():
    given = []
    sections = IncrementalSections(lambda name, text: given.append((name, text)))
    for piece in ("Find", "ings: ", "Clear", " lungs. Imp", "ression: ", "Normal"):
        sections.feed(piece)
    assert given == [
        ("findings", "Clear"),
        ("findings", " lungs."),
        ("impression", "Normal"),
    ]


@pytest.mark.parametrize("seed", range(100))
def test_trimmed(seed):
    dice = random.Random(seed)
    text = "".join(dice.choices((" ", "\n", "a", "bc"), k=8))
    given = []
    trimmed = TrimmedText(given.append)
    for piece in cut(text, dice):
        trimmed.feed(piece)
    assert "".join(given) == text.strip()


@pytest.mark.parametrize("seed", range(100))
def test_any_token_ids_are_the_text_of_the_whole(tokenizer, seed):
    dice = random.Random(seed)
    token_ids = dice.choices(range(tokenizer.size), k=30)
    text = IncrementalText(tokenizer.decode)
    pieces = [text.feed([token_id]) for token_id in token_ids]
    assert "".join(pieces) + text.rest() == tokenizer.decode(token_ids)


def test_a_character_is_never_split(tokenizer):
    words = "Größe 3 µm, 心臓は正常です 🫁🫀. Ende"
    token_ids = tokenizer.encode_text(words)
    assert len(token_ids) > len(words)
    text = IncrementalText(tokenizer.decode)
    pieces = [text.feed([token_id]) for token_id in token_ids]
    assert "".join(pieces) == words
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_a_character_that_never_ends_is_given_at_the_end(tokenizer):
    token_ids = tokenizer.encode_text("a🫁")[:-1]
    text = IncrementalText(tokenizer.decode)
    assert text.feed(token_ids) == ""
    assert text.rest() == tokenizer.decode(token_ids)


def cut(text, dice):
    while text:
        size = dice.randint(1, 4)
        yield text[:size]
        text = text[size:]
