"""The study as a local web application: one static page, and a small JSON interface behind it.

It opens `study.json` and the pictures, never `key.json`: what a process has not read it cannot
tell. Everything is held in memory, so a folder that changes meanwhile changes nothing.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from llmcxr_training.reader_study.answers import Answer
from llmcxr_training.reader_study.order import order_for
from llmcxr_training.reader_study.ratings import (
    LONGEST_NAME,
    ChangedElsewhere,
    NotSaved,
    Rating,
    RatingStore,
    TakenOver,
    UnknownReader,
)
from llmcxr_training.reader_study.study import Case, Study, StudyError
from llmcxr_training.reader_study.web_safety import SafetyMiddleware

_PAGE = {"/": "index.html", "/study.css": "study.css", "/study.js": "study.js"}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

_STATUS: dict[type[StudyError], tuple[int, str]] = {
    UnknownReader: (404, "unknown-reader"),
    TakenOver: (409, "taken-over"),
    ChangedElsewhere: (409, "changed-elsewhere"),
    NotSaved: (503, "not-saved"),
}


def _token_of(authorization: Annotated[str, Header()] = "") -> str:
    return authorization.removeprefix("Bearer ")


Token = Annotated[str, Depends(_token_of)]
"""What the tab shows; see `RatingStore.begin`."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Beginning(_Body):
    """Who opens the study."""

    reader: str = Field(min_length=1, max_length=LONGEST_NAME)


class NewRating(_Body):
    """An answer on its way into the ratings.

    Attributes:
        seen: revision that the tab knows; 0 for none.
    """

    answer: Answer
    final: bool
    seconds: float = Field(ge=0.0, le=86_400.0)
    seen: int = Field(ge=0)


def create_app(study: Study, ratings: RatingStore, hosts: list[str]) -> FastAPI:
    """The application.

    Args:
        study: opened, so unchanged.
        ratings: of the same study.
        hosts: names under which it may be asked; others are refused, so that a page elsewhere
            cannot reach it by a name of its own (DNS rebinding).
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SafetyMiddleware)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    _add_problems(app)
    _add_static(app, study)
    _add_study(app, study, ratings)
    return app


def _add_static(app: FastAPI, study: Study) -> None:
    folder = files("llmcxr_training.reader_study") / "page"
    pages = {path: (folder / name).read_bytes() for path, name in _PAGE.items()}
    pictures = {id_: (study.folder / case.image).read_bytes() for id_, case in study.cases.items()}

    def page(request: Request) -> Response:
        path = request.url.path
        kind = _TYPES[_PAGE[path].rpartition(".")[2]]
        return Response(pages[path], media_type=kind)

    for path in pages:
        app.add_api_route(path, page, methods=["GET"])

    @app.get("/favicon.ico")
    def no_icon() -> Response:
        return Response(status_code=204)

    @app.get("/images/{case_id}.png")
    def picture(case_id: str) -> Response:
        # The name is a secret of 64 bits: an <img> cannot show who asks.
        return Response(pictures[_known(study, case_id)], media_type="image/png")


def _add_study(app: FastAPI, study: Study, ratings: RatingStore) -> None:
    ordered = functools.lru_cache(maxsize=256)(functools.partial(order_for, study))

    @app.get("/api/title")
    def title() -> dict[str, str]:
        return {"title": study.file.title}

    @app.post("/api/tab")
    def begin(body: Beginning) -> dict[str, str]:
        return {"tab": ratings.begin(body.reader)}

    @app.get("/api/case")
    def case(token: Token, position: int | None = None) -> dict[str, Any]:
        """The case at `position`; the first that is not done by default."""
        reader = ratings.reader_of(token)
        rated = {rating.case_id: rating for rating in ratings.latest(reader)}
        return _shown(ordered(reader), rated, position)

    @app.put("/api/ratings/{case_id}")
    def rate(token: Token, case_id: str, body: Annotated[NewRating, Body()]) -> dict[str, int]:
        if study.cases[_known(study, case_id)].kind != body.answer.kind:
            raise HTTPException(422, "the answer is for another kind of case")
        revision = ratings.save(
            token,
            case_id,
            body.answer,
            final=body.final,
            seconds=body.seconds,
            seen=body.seen,
        )
        return {"revision": revision}


def _known(study: Study, case_id: str) -> str:
    if case_id not in study.cases:
        raise HTTPException(404, "there is no such case in this study")
    return case_id


def _shown(cases: list[Case], rated: dict[str, Rating], position: int | None) -> dict[str, Any]:
    """What the page shows: progress, and a case with its rating unless all are done."""
    done = [case.id in rated and rated[case.id].final for case in cases]
    following = done.index(False) if False in done else len(cases)
    position = following if position is None else position
    if not 0 <= position <= following:
        raise HTTPException(404, "the cases before that one come first")
    progress = {"total": len(cases), "done": sum(done), "position": position}
    if position == len(cases):
        return progress | {"case": None}
    case = cases[position]
    of_kind = [c for c in cases if c.kind == case.kind]
    rating = rated.get(case.id)
    return progress | {
        "case": {
            "id": case.id,
            "kind": case.kind,
            "number": of_kind.index(case) + 1,
            "of": len(of_kind),
            "reports": [report.model_dump() for report in case.reports or ()],
        },
        "answer": None if rating is None else rating.answer.model_dump(mode="json"),
        "final": rating is not None and rating.final,
        "seconds": 0.0 if rating is None else rating.seconds,
        "revision": 0 if rating is None else rating.revision,
    }


def _add_problems(app: FastAPI) -> None:
    def problem(status: int, code: str, detail: str) -> JSONResponse:
        content = {"status": status, "code": code, "detail": detail}
        return JSONResponse(content, status, media_type="application/problem+json")

    @app.exception_handler(StudyError)
    def of_study(_: Request, error: StudyError) -> JSONResponse:
        status, code = _STATUS.get(type(error), (500, "study"))
        return problem(status, code, str(error))

    @app.exception_handler(RequestValidationError)
    def of_request(_: Request, error: RequestValidationError) -> JSONResponse:
        # Where, never what: a name or an answer belongs in no message.
        places = sorted({".".join(str(part) for part in e["loc"][:3]) for e in error.errors()})
        detail = f"missing, unknown or out of range: {', '.join(places)}; nothing was saved"
        return problem(422, "bad-request", detail)

    @app.exception_handler(HTTPException)
    def of_http(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, "refused", str(error.detail))
