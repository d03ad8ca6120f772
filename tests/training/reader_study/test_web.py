"""The page's interface: nothing tells the truth, nothing is lost, bad input is told apart."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.training.reader_study.conftest import READERS, Tab

from llmcxr_training.reader_study.ratings import RatingStore
from llmcxr_training.reader_study.serve import serve
from llmcxr_training.reader_study.study import KEY_JSON, RATINGS, Study, StudyError
from llmcxr_training.reader_study.web import create_app

IMAGE = {"kind": "image", "judgement": 4, "problems": ["texture"]}
REPORT = {"kind": "report", "preference": -1, "first": {"location": 2}, "second": {}}


def answer_of(case: dict[str, str]) -> dict[str, object]:
    return IMAGE if case["kind"] == "image" else REPORT


def test_the_page_is_complete_and_strict(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for path in ("/", "/study.css", "/study.js", "/api/title"):
        found = client.get(path)
        assert found.status_code == 200
        assert found.headers["cache-control"] == "no-store"
        # Nothing inline, nothing from elsewhere.
        assert "style=" not in found.text
        assert "http://" not in found.text
        assert "https://" not in found.text
    assert "<script src=" in page.text


def test_a_whole_study_and_back_again(client: TestClient, study: Study) -> None:
    tab = Tab(client, "Ada")
    view = tab.case()
    assert (view["total"], view["done"], view["position"]) == (15, 0, 0)
    assert view["case"]["kind"] == "image"
    assert client.get(f"/images/{view['case']['id']}.png").content.startswith(b"\x89PNG")
    assert tab.finish(lambda case: answer_of(case)) == 15
    assert tab.case()["case"] is None
    last = tab.case(14)
    assert last["final"]
    assert last["answer"]["preference"] == -1
    changed = REPORT | {"preference": 2}
    assert tab.rate(last["case"]["id"], changed, seen=last["revision"]).status_code == 200
    assert tab.case(14)["answer"]["preference"] == 2
    # The other reader has not begun.
    assert Tab(client, "R2").case()["done"] == 0


def test_a_draft_is_kept_and_does_not_count(client: TestClient) -> None:
    tab = Tab(client, "Ada")
    case = tab.case()["case"]
    assert tab.rate(case["id"], IMAGE, final=False).status_code == 200
    view = Tab(client, "Ada").case()
    assert view["done"] == 0
    assert view["case"] == case
    assert view["answer"] == IMAGE
    assert view["final"] is False
    assert view["seconds"] == 2.5


def test_ratings_outlive_the_server(client: TestClient, study: Study, ratings: RatingStore) -> None:
    tab = Tab(client, "Ada")
    first = tab.case()["case"]["id"]
    tab.rate(first, IMAGE)
    again = RatingStore(study.folder / RATINGS, study.digest)
    with TestClient(create_app(study, again, ["testserver"])) as other:
        tab.client = other
        view = tab.case()
        assert (view["done"], view["position"]) == (1, 1)
    again.close()


def test_nothing_that_is_sent_depends_on_the_truth(
    folder: Path, client: TestClient, study: Study
) -> None:
    key = study.open_key()
    (folder / KEY_JSON).unlink()
    tab = Tab(client, "Ada")
    sent = []
    while (view := tab.case())["case"] is not None:
        sent.append(json.dumps(view))
        tab.rate(view["case"]["id"], answer_of(view["case"]))
    text = "".join(sent)
    assert not any(truth.study_id in text for truth in key.values())
    for word in ("generated_first", "repeats", "part", "reference", "truth"):
        assert f'"{word}"' not in text
    assert client.get("/key.json").status_code == 404
    assert client.get("/images/..%2fkey.json").status_code == 404


def test_two_tabs_lose_nothing(client: TestClient) -> None:
    first = Tab(client, "Ada")
    case = first.case()["case"]["id"]
    second = Tab(client, "Ada")
    refused = first.rate(case, IMAGE)
    assert (refused.status_code, refused.json()["code"]) == (409, "taken-over")
    assert second.rate(case, IMAGE | {"judgement": 1}).status_code == 200
    # A copied tab shows what the first one shows, but has not seen its answer.
    copied = second.rate(case, IMAGE | {"judgement": 2})
    assert (copied.status_code, copied.json()["code"]) == (409, "changed-elsewhere")
    view = second.case(0)
    assert view["answer"]["judgement"] == 1
    kept = second.rate(case, IMAGE | {"judgement": 2}, seen=view["revision"])
    assert kept.status_code == 200
    assert second.case(0)["answer"]["judgement"] == 2


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "image", "judgement": 5},
        {"kind": "image", "judgement": 0},
        {"kind": "image", "judgement": "4"},
        {"kind": "image", "judgement": True},
        {"kind": "image"},
        {"kind": "image", "judgement": 1, "problems": ["PATIENT NAME"]},
        {"kind": "image", "judgement": 1, "truth": "real"},
        {"kind": "report", "preference": 0},
        {"kind": "report", "preference": 3},
        {"kind": "other"},
    ],
)
def test_an_answer_out_of_range_changes_nothing(
    client: TestClient, answer: dict[str, object]
) -> None:
    tab = Tab(client, "Ada")
    view = tab.case()
    assert view["case"]["kind"] == "image"
    tab.rate(view["case"]["id"], IMAGE, final=False)
    refused = tab.rate(view["case"]["id"], answer)
    assert refused.status_code == 422
    assert "PATIENT" not in refused.text
    assert tab.case()["answer"] == IMAGE


def test_what_else_is_refused(client: TestClient, study: Study) -> None:
    unknown = client.post("/api/tab", json={"reader": "nobody"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-reader")
    assert "nobody" not in unknown.json()["detail"].replace("nobody of that name", "")
    assert client.post("/api/tab", json={"reader": ""}).status_code == 422
    assert client.post("/api/tab", content=b"{").status_code == 422
    assert client.get("/api/case").json()["code"] == "taken-over"
    tab = Tab(client, "Ada")
    assert tab.rate("0" * 16, IMAGE).status_code == 404
    ahead = client.get("/api/case", params={"position": 3}, headers=tab.headers)
    assert (ahead.status_code, ahead.json()["detail"]) == (
        404,
        "the cases before that one come first",
    )
    elsewhere = client.post(
        "/api/tab", json={"reader": "Ada"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert elsewhere.status_code == 403
    assert client.get("/", headers={"Host": "attacker.example"}).status_code == 400
    assert client.post("/api/tab", content=b"x" * 70_000).status_code == 413
    assert tab.case()["done"] == 0


def test_a_file_that_cannot_be_written_is_said_and_nothing_is_lost(
    client: TestClient, study: Study
) -> None:
    tab = Tab(client, "Ada")
    case = tab.case()["case"]["id"]
    tab.rate(case, IMAGE, final=False)
    blocker = sqlite3.connect(study.folder / RATINGS)
    blocker.execute("PRAGMA journal_mode")
    blocker.execute(
        "CREATE TRIGGER full BEFORE INSERT ON rating BEGIN SELECT RAISE(FAIL, 'x'); END"
    )
    blocker.commit()
    seen = tab.case()["revision"]
    failed = tab.rate(case, IMAGE | {"judgement": 1}, seen=seen)
    assert (failed.status_code, failed.json()["code"]) == (503, "not-saved")
    assert tab.case()["answer"] == IMAGE
    blocker.execute("DROP TRIGGER full")
    blocker.commit()
    blocker.close()
    assert tab.rate(case, IMAGE | {"judgement": 1}, seen=seen).status_code == 200


def test_the_ratings_belong_to_one_study(folder: Path, ratings: RatingStore) -> None:
    with pytest.raises(StudyError, match="another study"):
        RatingStore(folder / RATINGS, "0" * 64)
    (folder / "broken.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StudyError, match="damaged"):
        RatingStore(folder / "broken.sqlite", "0" * 64)
    with pytest.raises(StudyError, match="printable"):
        ratings.add_readers(["a\nb"])
    ratings.add_readers(["Ada"])
    assert ratings.readers() == READERS


def test_serving_is_for_this_machine_and_for_named_readers(folder: Path) -> None:
    with pytest.raises(StudyError, match="--allowed-host"):
        serve(folder, [], host="0.0.0.0", port=0, allowed_hosts=[])
    with pytest.raises(StudyError, match="--reader"):
        serve(folder, [], host="127.0.0.1", port=0, allowed_hosts=[])
