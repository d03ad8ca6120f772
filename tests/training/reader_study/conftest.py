"""A prepared study of drawn pictures, its page, and readers who answer from a rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from llmcxr_training.reader_study.example import drawn_candidates
from llmcxr_training.reader_study.prepare import Design, prepare
from llmcxr_training.reader_study.ratings import RatingStore
from llmcxr_training.reader_study.study import RATINGS, Study
from llmcxr_training.reader_study.web import create_app

READERS = ["Ada", "R2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study folder: 8 pictures and 4 pairs of reports, some of them twice."""
    path = tmp_path / "study"
    prepare(drawn_candidates(12), Design(images=8, reports=4, repeats=0.25), path)
    return path


@pytest.fixture
def study(folder: Path) -> Study:
    return Study.open(folder)


@pytest.fixture
def ratings(folder: Path, study: Study) -> Iterator[RatingStore]:
    store = RatingStore(folder / RATINGS, study.digest)
    store.add_readers(READERS)
    yield store
    store.close()


@pytest.fixture
def client(study: Study, ratings: RatingStore) -> Iterator[TestClient]:
    with TestClient(create_app(study, ratings, ["testserver"])) as found:
        yield found


class Tab:
    """A reader's tab, as the page is one."""

    def __init__(self, client: TestClient, reader: str) -> None:
        self.client = client
        begun = client.post("/api/tab", json={"reader": reader})
        self.headers = {"Authorization": f"Bearer {begun.json()['tab']}"}

    def case(self, position: int | None = None) -> dict[str, Any]:
        where = {} if position is None else {"position": position}
        found = self.client.get("/api/case", params=where, headers=self.headers)
        found.raise_for_status()
        content: dict[str, Any] = found.json()
        return content

    def rate(self, case_id: str, answer: dict[str, Any], **changed: Any) -> Any:
        body = {"answer": answer, "final": True, "seconds": 2.5, "seen": 0} | changed
        return self.client.put(f"/api/ratings/{case_id}", json=body, headers=self.headers)

    def finish(self, judge: Any) -> int:
        """Answer everything that is left; returns how many cases that were."""
        count = 0
        while (view := self.case())["case"] is not None:
            case = view["case"]
            answer = {"kind": case["kind"], **judge(case)}
            assert self.rate(case["id"], answer, seen=view["revision"]).status_code == 200
            count += 1
        return count
