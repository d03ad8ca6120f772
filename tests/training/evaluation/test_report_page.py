"""The HTML report and the files beside it."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image
from tests.training.evaluation.conftest import read

from llmcxr_training.evaluation.cases import Cases
from llmcxr_training.evaluation.gallery import Example, Gallery, Pair
from llmcxr_training.evaluation.html_report import html_report, picture_url

VOID = {"meta", "img", "br", "link"}


class Checked(HTMLParser):
    """Every element is closed in order, and everything that is shown is in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            assert given["alt"]
            self.sources.append(given["src"] or "")
        if tag == "a":
            self.links.append(given["href"] or "")
        if given.get("id"):
            self.ids.append(given["id"] or "")
        assert tag not in {"script", "link", "iframe"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> Checked:
    parser = Checked()
    parser.feed(page)
    assert not parser.open
    assert all(source.startswith("data:image/") for source in parser.sources)
    assert {link.removeprefix("#") for link in parser.links} <= set(parser.ids)
    assert "url(" not in page
    return parser


def test_a_whole_report(finished: tuple[Path, Path]) -> None:
    page = (finished[0] / "report.html").read_text(encoding="utf-8")
    parser = checked(page)
    pictures = [s for s in parser.sources if s.startswith("data:image/jpeg")]
    # Eight examples of three pictures, eight pairs of two; no several ones of 32 pixels.
    assert len(pictures) == 8 * 3 + 8 * 2
    plots = [s for s in parser.sources if s.startswith("data:image/svg+xml")]
    assert len(plots) == 7
    svg = base64.b64decode(plots[0].partition(",")[2]).decode()
    assert svg.startswith("<?xml")
    assert "this checkpoint" in svg
    for words in ("tiny 0.0.1", "look here", "Real report, the prompt", "Held-out instructions"):
        assert words in page
    assert str(finished[0]) not in page


def test_no_pictures(finished: tuple[Path, Path]) -> None:
    evaluation, tables = read(finished[0] / "evaluation.json"), read(finished[0] / "tables.json")
    parser = checked(html_report(evaluation, tables, Gallery()))
    assert not [s for s in parser.sources if s.startswith("data:image/jpeg")]


def test_nothing_measured(finished: tuple[Path, Path]) -> None:
    evaluation = read(finished[0] / "evaluation.json") | {"metrics": {}, "diagnosis": []}
    page = html_report(evaluation, {}, Gallery())
    checked(page)
    assert "Nothing of it was measured" in page


def test_texts_are_escaped(finished: tuple[Path, Path]) -> None:
    evaluation = read(finished[0] / "evaluation.json")
    grey = np.zeros((32, 32), np.uint8)
    bad = "<script>alert(1)</script>"
    gallery = Gallery(
        [Example(bad, grey, grey, None, bad)], [Pair(grey, grey, 0.1, bad, bad)], [(bad, [grey])]
    )
    page = html_report(evaluation, {}, gallery)
    checked(page)
    assert page.count("&lt;script&gt;") == 5


def test_a_picture_survives() -> None:
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    content = base64.b64decode(picture_url(grey).partition(",")[2])
    again = np.asarray(Image.open(io.BytesIO(content)))
    assert np.abs(again.astype(int) - grey).mean() < 2


def test_files_beside_it(finished: tuple[Path, Path]) -> None:
    folder = finished[0]
    assert (folder / ".gitignore").read_text() == "*\n"
    cases = Cases.read(folder)
    assert len(cases.records) == 21
    asked = [record for record in cases.records if "written" in record]
    assert len(asked) == 20
    assert {"id", "patient", "real", "probabilities", "labels", "psnr_db"} <= set(asked[0])
    assert len(asked[0]["probabilities"]) == 8
    assert cases.arrays["findings.probabilities"].shape == (20, 8)
    evaluation = read(folder / "evaluation.json")
    assert {"name", "points_at", "failed", "sentence"} == set(evaluation["diagnosis"][0])
    # One sentence for everybody.
    (reading,) = [c for c in evaluation["diagnosis"] if c["name"] == "Image to report"]
    assert reading["failed"] is True
    markdown = (folder / "evaluation.md").read_text(encoding="utf-8")
    assert "What it points at:" in markdown
    assert reading["sentence"] in markdown
    assert re.search(r"\| Yes or no, macro AUROC \| \d", markdown)
    assert "Answers to yes / no questions:" in markdown
    assert json.loads((folder / "tables.json").read_text())["labels"][0]["finding"] == "No Finding"
