"""What only a real server on a real socket shows: body limits, hung-up clients, a dying vLLM."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from tests.fakes import Fault
from tests.service.conftest import serve

from llmcxr_service.app import create_app
from llmcxr_service.observability import configure_logging

LIMIT = 100_000


@pytest.fixture
def server(make_settings, vllm):
    with serve(vllm.app()) as vllm_url:
        app = create_app(
            make_settings(vllm_url=vllm_url, max_body_bytes=LIMIT, request_timeout_seconds=20.0)
        )
        with serve(app) as url:
            yield url, app


@contextmanager
def connected(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def head(path, *headers):
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", *headers, "", ""]
    return "\r\n".join(lines).encode()


def answer(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            break
        received += part
    return received


def wait_for(condition):
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def good(url):
    return httpx.post(
        f"{url}/generate-image", json={"report": "Clear."}, trust_env=False, timeout=20.0
    )


def test_too_large_by_content_length_is_refused_unread(server):
    url, _ = server
    with connected(url) as connection:
        connection.sendall(head("/generate-report", f"Content-Length: {10**10}"))
        reply = answer(connection)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in reply
    assert good(url).status_code == 200


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/generate-report", "application/dicom"),
        ("/generate-image", "application/json"),
        ("/generate-image", "text/plain"),
        ("/reconstruct", "multipart/form-data; boundary=x"),
    ],
)
def test_too_large_in_chunks_is_refused_when_it_is(server, path, content_type):
    url, _ = server
    chunk = b"x" * 10_000
    if "multipart" in content_type:
        chunk = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + chunk
    sent = 0
    with connected(url) as connection:
        headers = ("Transfer-Encoding: chunked", f"Content-Type: {content_type}")
        connection.sendall(head(path, *headers))
        connection.settimeout(0.05)
        reply = b""
        while not reply and sent < 50 * LIMIT:
            try:
                connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                chunk = b"x" * 10_000
                sent += len(chunk)
                reply = connection.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert reply.startswith(b"HTTP/1.1 413 "), reply
    assert sent < 5 * LIMIT
    assert good(url).status_code == 200


def test_a_client_that_hangs_up_frees_vllm(server, vllm):
    url, app = server
    vllm.faults.append(Fault.HANG)
    body = b'{"report": "Clear."}'
    with connected(url) as connection:
        headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        connection.sendall(head("/generate-image", *headers) + body)
        wait_for(lambda: vllm.running == 1)
    wait_for(lambda: vllm.running == 0)
    registry = app.state.runtime.metrics.registry
    wait_for(lambda: registry.get_sample_value("llmcxr_pending_requests") == 0)
    labels = {"route": "/generate-image", "method": "POST", "status": "499"}
    wait_for(lambda: registry.get_sample_value("llmcxr_requests_total", labels) == 1)
    assert good(url).status_code == 200


def test_a_client_that_hangs_up_while_sending(server):
    url, app = server
    with connected(url) as connection:
        connection.sendall(head("/generate-report", "Content-Length: 5000") + b"x" * 100)
        registry = app.state.runtime.metrics.registry
        wait_for(lambda: registry.get_sample_value("llmcxr_pending_requests") == 1)
    wait_for(lambda: registry.get_sample_value("llmcxr_pending_requests") == 0)
    assert good(url).status_code == 200


def test_vllm_dies_in_the_middle_of_an_answer(server, vllm):
    url, _ = server
    vllm.faults.append(Fault.DIE)
    response = good(url)
    assert response.status_code == 503
    assert response.json()["reason"] == "connection-lost"
    assert int(response.headers["retry-after"]) > 0
    assert good(url).status_code == 200


def test_vllm_is_not_there(make_settings):
    app = create_app(make_settings(vllm_url="http://127.0.0.1:9"))
    with serve(app) as url:
        response = good(url)
        assert response.status_code == 503
        assert response.json()["type"] == "/problems/generator-unavailable"
        live = httpx.get(f"{url}/health/live", trust_env=False)
        assert live.status_code == 200


def test_configured_logging_is_json_and_only_that(capfd, make_settings, vllm):
    import json
    import logging
    import threading
    import warnings

    hooks = warnings.showwarning, threading.excepthook
    names = ("llmcxr_service", "uvicorn", "uvicorn.error", "uvicorn.access")
    before = {n: (logging.getLogger(n).handlers, logging.getLogger(n).level) for n in names}
    try:
        configure_logging("INFO")
        logging.getLogger("uvicorn.error").info("started")
        logging.getLogger("llmcxr_service.app").info("request")
        logging.getLogger("uvicorn.access").warning("127.0.0.1 GET /secret")
    finally:
        for name, (handlers, level) in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.level, logger.propagate = handlers, level, True
        logging.getLogger("uvicorn.access").disabled = False
        warnings.showwarning, threading.excepthook = hooks
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["started", "request"]


_QUOTES = """
import threading, warnings
from llmcxr_service.observability import configure_logging

configure_logging("INFO")
warnings.warn("Invalid value for VR UI: 'ANNA^EXAMPLE'", stacklevel=1)

def end():
    raise ValueError("ANNA^EXAMPLE")

thread = threading.Thread(target=end)
thread.start()
thread.join()
"""


def test_warnings_and_what_ends_threads_are_logged_without_their_words():
    import json

    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", _QUOTES], capture_output=True, text=True, check=True
    )
    first, second = [json.loads(line) for line in done.stderr.splitlines()]
    assert (first["event"], first["category"]) == ("warning", "UserWarning")
    assert (second["event"], second["exception"]) == ("a thread ended", "ValueError")
    assert "ANNA" not in done.stderr + done.stdout
