"""A small DICOMweb archive for tests: STOW, QIDO and WADO, with a count of what came how often.

It keeps one instance for each SOP Instance UID, as archives do, and remembers everything else
that a delivery must not do: another content under the same UID, two objects for one source.
`python -m tests.archive PORT DELAY` serves it as a process of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pydicom
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class Stored:
    """One instance.

    Attributes:
        data: as it came first.
        study: its Study Instance UID.
        sources: SOP Instance UIDs of what it is about.
        times: how often it came.
    """

    data: bytes
    study: str
    sources: tuple[str, ...]
    times: int = 1


@dataclass
class Archive:
    """State of the archive.

    Attributes:
        instances: by SOP Instance UID.
        changed: how often a UID came with another content.
        faults: statuses to answer STOW with, one by one, before it works.
        lost: how many stores to answer with success and forget.
        token: bearer token that is asked for, if set.
        posts: STOW requests.
        delay_seconds: from storing to answering.
        is_down: whether every store is answered with 503.
    """

    instances: dict[str, Stored] = field(default_factory=dict)
    changed: int = 0
    faults: deque[int] = field(default_factory=deque)
    lost: int = 0
    token: str | None = None
    posts: int = 0
    delay_seconds: float = 0.0
    is_down: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def app(self) -> Starlette:
        """The ASGI app."""
        return Starlette(
            routes=[
                Route("/studies", self._stow, methods=["POST"]),
                Route("/studies/{study}/instances", self._qido),
                Route("/studies/{study}/instances/{instance}", self._wado),
                Route("/state", self._state),
                Route("/down", self._set_down, methods=["POST"]),
                Route("/up", self._set_up, methods=["POST"]),
            ]
        )

    def keep(self, data: bytes) -> str:
        """Store one object; its UID."""
        dataset = pydicom.dcmread(io.BytesIO(data))
        uid = str(dataset.SOPInstanceUID)
        with self.lock:
            old = self.instances.get(uid)
            if old is None:
                study = str(dataset.StudyInstanceUID)
                self.instances[uid] = Stored(data, study, _sources(dataset))
            else:
                old.times += 1
                self.changed += hashlib.sha256(data).digest() != hashlib.sha256(old.data).digest()
        return uid

    async def _stow(self, request: Request) -> Response:
        self.posts += 1
        body = await request.body()
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(status_code=401)
        if self.is_down:
            return Response(status_code=503)
        if self.faults:
            return Response(status_code=self.faults.popleft(), headers={"Retry-After": "0"})
        if self.lost:
            self.lost -= 1
            return JSONResponse({})
        boundary = request.headers["content-type"].split("boundary=")[1].strip('"').encode()
        uids = [
            self.keep(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))
            for part in body.split(b"--" + boundary)[1:-1]
        ]
        await asyncio.sleep(self.delay_seconds)
        stored = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
        return JSONResponse({"00081199": {"vr": "SQ", "Value": stored}})

    async def _qido(self, request: Request) -> Response:
        wanted = request.query_params.get("SOPInstanceUID")
        found = [
            {"00080018": {"vr": "UI", "Value": [uid]}}
            for uid, stored in self.instances.items()
            if stored.study == request.path_params["study"] and wanted in (None, uid)
        ]
        return JSONResponse(found) if found else Response(status_code=204)

    async def _wado(self, request: Request) -> Response:
        stored = self.instances.get(request.path_params["instance"])
        if stored is None:
            return Response(status_code=404)
        return Response(stored.data, media_type="application/dicom")

    async def _set_down(self, _: Request) -> Response:
        self.is_down = True
        return Response()

    async def _set_up(self, _: Request) -> Response:
        self.is_down = False
        return Response()

    async def _state(self, _: Request) -> Response:
        with self.lock:
            return JSONResponse(self.state())

    def state(self) -> dict[str, Any]:
        """What came, for those who count."""
        return {
            "posts": self.posts,
            "changed": self.changed,
            "instances": [
                {"uid": uid, "study": s.study, "sources": s.sources, "times": s.times}
                for uid, s in self.instances.items()
            ],
        }


def _sources(dataset: pydicom.Dataset) -> tuple[str, ...]:
    evidence = dataset.get("CurrentRequestedProcedureEvidenceSequence") or []
    evidence = [*evidence, *(dataset.get("PertinentOtherEvidenceSequence") or [])]
    return tuple(
        str(instance.ReferencedSOPInstanceUID)
        for study in evidence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    )


if __name__ == "__main__":
    import uvicorn

    archive = Archive(delay_seconds=float(sys.argv[2]))
    uvicorn.run(archive.app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
