"""Made-up identifiers through real servers, by every door: where do they come out again?

Each stands in one place where a patient's identity can be: DICOM attributes, UIDs, a preamble,
picture comments, file names, form fields, headers, queries, paths, JSON, AE titles, PDUs, what an
archive answers. The servers are processes of their own and log at DEBUG. One takes uploads and
pulls, and may not write one byte to any file (RLIMIT_FSIZE 0: it would fail). The other receives
by STOW-RS and DIMSE, and delivers, to an archive that works and to one that refuses everything
and quotes patients in doing so. It keeps what it has to deliver in its spool; those files are
meant for a patient's data, and they alone. Logs, /metrics, /deliveries, all that was answered,
and the names and contents of all other files are searched, the queue's database among them.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import socket
import sys
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from tests.archive import Archive
from tests.hostile import canary_doors, identifiers
from tests.hostile.case import Store
from tests.hostile.drained import drained
from tests.hostile.generator import Door
from tests.hostile.hostile_archive import HostileArchive, hostile_archive
from tests.hostile.identifiers import CANARIES
from tests.hostile.senders import DimseSender
from tests.hostile.server import Server, free_port, pulling, receiving, serve
from tests.service.conftest import serve as serve_here

PERCENT = {Door.UPLOAD: 50, Door.PULL: 15, Door.STOW: 20, Door.DIMSE: 15}
_DRAIN_SECONDS = 600.0
_MEANT = ("source", "identity")
_DEV = ("-X", "dev")


@dataclass
class Searched:
    """What was sent and searched, and what was found.

    Attributes:
        sent: canaries that stood in some request.
        answers: by door, how often each came.
        found: where canaries came out again, and which.
    """

    sent: set[str] = field(default_factory=set)
    answers: dict[Door, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    found: Counter[str] = field(default_factory=Counter)

    def note(self, sent: bytes) -> None:
        """Remember which canaries are sent."""
        self.sent |= {name for name, value in CANARIES.items() if value.encode() in sent}

    def search(self, where: str, text: bytes) -> None:
        """Look for every canary, in whatever case."""
        for name in _canaries_in(text):
            self.found[f"{where}: {name}"] += 1


def _canaries_in(text: bytes) -> list[str]:
    low = text.lower()
    return [
        name
        for name, value in CANARIES.items()
        if identifiers.core(value).lower().encode() in low
    ]  # fmt: skip


def run(requests: int, seed: int) -> dict[str, Any]:
    """Send so many requests to fresh servers, and search everything they said and kept."""
    searched = Searched()
    shares = {door: requests * percent // 100 for door, percent in PERCENT.items()}
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        without_files = _without_files(Path(first), shares, seed, searched)
        with_queue = _with_queue(Path(second), shares, seed, searched)
    return {
        "requests": sum(shares.values()),
        "requests_by_door": shares,
        "seed": seed,
        "canaries": len(CANARIES),
        "canaries_sent": len(searched.sent),
        "answers": {door: dict(sorted(found.items())) for door, found in searched.answers.items()},
        "uploads_and_pulls": without_files,
        "received_and_delivered": with_queue,
        "found": dict(searched.found),
        "found_in_all": sum(searched.found.values()),
    }


def _without_files(
    folder: Path, shares: dict[Door, int], seed: int, searched: Searched
) -> dict[str, Any]:
    """Uploads and pulls, to a server that cannot write to any file."""
    with ExitStack() as stack:
        sources = stack.enter_context(hostile_archive())
        server = stack.enter_context(
            serve(folder, python=_DEV, LOG_LEVEL="DEBUG", **pulling(folder, sources.url))
        )
        # From here on it cannot write to a file; importing torch tries where it could.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        with _client(server) as client:
            dice = random.Random(seed)
            for number in range(shares[Door.UPLOAD]):
                _send(client, Door.UPLOAD, identifiers.request(number, dice), searched)
            _pull_all(client, sources, shares[Door.PULL], seed, searched)
            _send_malformed(server.url, searched)
            searched.search("metrics", client.get("/metrics").content)
        alive = server.is_alive
    said = server.log.read_bytes()
    searched.search("log", said)
    files = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    return {
        "alive": alive,
        "log_lines": said.count(b"\n"),
        "temporary_files": len(files),
        "bytes_written_to_files": 0,  # the limit would have ended any that tried
    }


def _pull_all(
    client: httpx.Client, sources: HostileArchive, count: int, seed: int, searched: Searched
) -> None:
    dice = random.Random(f"{seed}/pull")
    for number in range(count):
        made, answer = canary_doors.pull(number, dice)
        if answer is not None:
            sources.lay_out(json.loads(made.content)["dicomweb"]["series"], answer)
            searched.note(answer.content)
        _send(client, Door.PULL, made, searched)


def _with_queue(
    folder: Path, shares: dict[Door, int], seed: int, searched: Searched
) -> dict[str, Any]:
    """STOW-RS and DIMSE, to a server that keeps and delivers."""
    with ExitStack() as stack:
        archive = Archive()
        archives = {
            "pacs": stack.enter_context(serve_here(archive.app())),
            "rude": stack.enter_context(serve_here(canary_doors.rude_archive(searched.note))),
        }
        port = free_port()
        settings = receiving(folder, archives, port) | {
            "DICOM_CALLING_AE_TITLES": "*",
            "AUDIT": str(folder / "audit"),
            "LOG_LEVEL": "DEBUG",
        }
        server = stack.enter_context(serve(folder, python=_DEV, **settings))
        client = stack.enter_context(_client(server))
        dice = random.Random(f"{seed}/stow")
        for number in range(shares[Door.STOW]):
            _send(client, Door.STOW, canary_doors.stow(number, dice), searched)
        _store_all(port, shares, seed, searched)
        queue = drained(folder / "spool", _DRAIN_SECONDS, but="rude")
        _search_queue(client, searched)
        searched.search("metrics", client.get("/metrics").content)
        kept = _search_files(server, searched)
        alive = server.is_alive
    said = server.log.read_bytes()
    searched.search("log", said)
    # Once more, when the database's journal has been written back.
    kept = _search_files(server, searched) or kept
    return {"alive": alive, "log_lines": said.count(b"\n"), **queue, **kept}


def _store_all(port: int, shares: dict[Door, int], seed: int, searched: Searched) -> None:
    def heard(pdu: bytes) -> None:
        searched.search("PDU", canary_doors.pdu_without_what_is_meant(pdu))

    calling = CANARIES["calling-ae"]
    sender = DimseSender(port, calling, heard)
    dice = random.Random(f"{seed}/dimse")
    for number in range(shares[Door.DIMSE]):
        case = canary_doors.store(number + shares[Door.STOW], dice)
        name = case.instance if isinstance(case, Store) else ""
        searched.note(case.data + name.encode() + calling.encode())
        searched.answers[Door.DIMSE][sender.send(case).text] += 1
    sender.close()


def _search_queue(client: httpx.Client, searched: Searched) -> None:
    """What an administrator is told of deliveries."""
    listed = client.get("/deliveries", params={"limit": 1000})
    searched.search("deliveries", listed.content)
    for delivery in listed.json()["deliveries"][:20]:
        searched.search("deliveries", client.get(f"/deliveries/{delivery['id']}").content)


def _search_files(server: Server, searched: Searched) -> dict[str, Any]:
    """Every file that the server can have made; those that are meant for it may hold a patient."""
    jobs = server.folder / "spool" / "jobs"
    kept, meant, wide = 0, 0, 0
    temporary = [path for path in (server.folder / "tmp").rglob("*") if path.is_file()]
    for path in server.folder.rglob("*"):
        searched.search("file name", str(path.relative_to(server.folder)).encode())
        if not path.is_file() or path == server.log or server.folder / "tiny" in path.parents:
            continue
        kept += 1
        if jobs in path.parents and (path.name in _MEANT or path.parent.name == "outputs"):
            meant += 1
            wide += bool(path.stat().st_mode & 0o077)
            continue
        searched.search(f"file {path.name}", path.read_bytes())
    return {
        "files": kept,
        "files_meant_for_a_patient's_data": meant,
        "of_which_others_may_read": wide,
        "temporary_files": len(temporary),
    }


def _client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60.0, trust_env=False)


def _send(client: httpx.Client, door: Door, made: identifiers.Request, searched: Searched) -> None:
    response = client.request(
        made.method, made.path, content=made.content, headers=made.headers, params=made.params
    )
    searched.answers[door][str(response.status_code)] += 1
    searched.note(b"\n".join([made.content, repr((made.path, made.headers, made.params)).encode()]))
    content = response.content
    if response.headers.get("content-type") == "application/dicom+json":
        content = json.dumps(canary_doors.without_what_is_meant(response.json())).encode()
    searched.search(f"body {response.status_code}", content)
    searched.search("headers", repr(response.headers.raw).encode())


def _send_malformed(url: str, searched: Searched) -> None:
    """HTTP that is none: the server itself answers, and may be tempted to quote."""
    host, port = url.removeprefix("http://").split(":")
    for request in identifiers.malformed():
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
        searched.search("malformed", answer)


def main() -> int:
    """Read the arguments, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    found = run(arguments.requests, arguments.seed)
    text = json.dumps(found, indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    Console().print_json(text)
    return int(found["found_in_all"] > 0)


if __name__ == "__main__":
    sys.exit(main())
