"""`llmcxr-train reader-study serve`: the study's page on this machine, until it is stopped."""

from __future__ import annotations

import importlib.util
import ipaddress
from pathlib import Path

from llmcxr_training.reader_study.ratings import RatingStore
from llmcxr_training.reader_study.study import RATINGS, Study, StudyError

LOOPBACK = ("127.0.0.1", "localhost")


def serve(
    folder: Path, readers: list[str], *, host: str, port: int, allowed_hosts: list[str]
) -> None:
    """Serve a study.

    Args:
        folder: the study folder.
        readers: names or codes of readers who are new.
        host: address to listen on.
        port: 0 takes a free one.
        allowed_hosts: names under which other machines ask.

    Raises:
        StudyError: the study was changed, nobody takes part, the web server is not installed,
            or it would be reachable from elsewhere without anybody having said so.
    """
    for needed in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(needed) is None:
            raise StudyError(f"the page needs {needed}: pip install 'llmcxr[reader-study]'")
    if not _is_loopback(host) and not allowed_hosts:
        raise StudyError(
            "a reader's name is the only password: to listen on other addresses than loopback,"
            " say with --allowed-host under which name it is asked"
        )
    import uvicorn

    from llmcxr_training.reader_study.web import create_app

    study = Study.open(folder)
    ratings = RatingStore(folder / RATINGS, study.digest)
    try:
        ratings.add_readers(readers)
        if not ratings.readers():
            raise StudyError("nobody takes part yet: name each reader with --reader")
        app = create_app(study, ratings, [*LOOPBACK, *allowed_hosts])
        # No access log: it would tie readers' machines to times.
        uvicorn.run(app, host=host, port=port, access_log=False, server_header=False)
    finally:
        ratings.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
