"""The page in a real Chromium: a whole study with the keyboard, a reload, a second tab, an outage.

Needs Debian's chromium and Playwright's library; skipped where either is missing.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from llmcxr_training.reader_study.analysis import analyse
from llmcxr_training.reader_study.ratings import RatingStore
from llmcxr_training.reader_study.study import Study
from llmcxr_training.reader_study.web import create_app

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: chromium)")

PATIENCE = 120.0
"""Seconds that a slow machine may take for anything."""


@pytest.fixture
def address(study: Study, ratings: RatingStore) -> Iterator[str]:
    config = uvicorn.Config(
        create_app(study, ratings, ["127.0.0.1"]), port=0, log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    end = time.monotonic() + PATIENCE
    while not server.started and time.monotonic() < end:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


class Reader:
    """A person at the keyboard."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda r: r.url.startswith(address) or self.complaints.append(r.url))
        page.goto(address)

    def until(self, condition: str, argument: object = None) -> None:
        """The page's policy forbids to evaluate text there, so it is asked from outside."""
        end = time.monotonic() + PATIENCE
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(50)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def enter(self, name: str) -> None:
        self.until("() => document.activeElement.id === 'reader'")
        self.page.keyboard.type(name)
        self.press("Enter")

    def see(self) -> str:
        """What stands above the case, once it is there."""
        self.until("() => !document.querySelector('#work').hidden")
        self.until("() => document.querySelector('#picture').complete")
        return str(self.page.inner_text("#heading"))

    def saved(self) -> None:
        self.until("() => document.querySelector('#saved').textContent === 'Saved.'")

    def go_on(self, heading: str) -> None:
        self.press("Enter")
        self.until(
            "h => document.querySelector('#heading').textContent !== h"
            " || !document.querySelector('#end').hidden",
            heading,
        )


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


# Playwright leaves its event loop's pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_whole_study_with_the_keyboard(
    browser: Any, address: str, study: Study, ratings: RatingStore, tmp_path: Any
) -> None:
    reader = Reader(browser.new_page(), address)
    page = reader.page
    reader.enter("Nobody")
    reader.until("() => !document.querySelector('#notice').hidden")
    assert "Nobody of that name" in page.inner_text("#notice-text")
    reader.press("Enter")
    page.fill("#reader", "Ada")
    reader.press("Enter")

    first = reader.see()
    assert first == "Picture 1 of 10"
    assert page.is_disabled("#next")
    reader.press("Enter")  # nothing to save yet
    reader.press("4", "s")
    reader.saved()
    page.reload()
    assert reader.see() == first
    reader.until("() => document.querySelectorAll('input:checked[name=choice]').length === 1")
    assert page.is_checked("[name=problem][value=texture]")
    reader.press("i", "z")
    assert page.get_attribute("#invert", "aria-pressed") == "true"
    assert "invert" in page.evaluate("document.querySelector('#picture').style.filter")
    reader.go_on(first)

    second = reader.see()
    reader.press("Backspace")
    reader.until("h => document.querySelector('#heading').textContent === h", first)
    assert page.is_checked("[name=choice][value='4']")
    reader.go_on(first)
    assert reader.see() == second

    while not page.is_visible("#end"):
        heading = reader.see()
        image = heading.startswith("Picture")
        # Two presses of q: a significant error of report A.
        reader.press(*(("1",) if image else ("5", "q", "q")))
        reader.saved()
        reader.go_on(heading)
    assert len(ratings.latest("Ada")) == len(study.cases)
    assert all(rating.final for rating in ratings.latest("Ada"))
    assert reader.complaints == []

    analyse(study.folder, tmp_path, resamples=20)
    found = json.loads((tmp_path / "analysis.json").read_text())
    assert found["readers"]["Ada"]["rated"] == 15
    errors = found["reports"]["errors"]["false_finding"]["significant"]
    assert errors["generated"]["value"] == errors["reference"]["value"] == 0.5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_second_tab_and_an_outage_lose_nothing(
    browser: Any, address: str, ratings: RatingStore
) -> None:
    context = browser.new_context()
    one = Reader(context.new_page(), address)
    one.enter("Ada")
    heading = one.see()
    other = Reader(context.new_page(), address)
    other.enter("Ada")
    other.see()

    one.press("2")
    one.until("() => !document.querySelector('#notice').hidden")
    assert "another tab" in one.page.inner_text("#notice-text")
    assert ratings.latest("Ada") == []
    one.press("Enter")  # go on here: what was entered is sent
    one.saved()
    (rating,) = ratings.latest("Ada")
    assert (rating.answer.model_dump()["judgement"], rating.final) == (2, False)

    context.set_offline(True)
    one.press("3")
    one.until("() => !document.querySelector('#notice').hidden")
    assert one.page.is_checked("[name=choice][value='3']")
    context.set_offline(False)
    one.press("Enter")  # try again
    one.saved()
    one.go_on(heading)
    (rating,) = ratings.latest("Ada")
    assert (rating.answer.model_dump()["judgement"], rating.final) == (3, True)
    context.close()
