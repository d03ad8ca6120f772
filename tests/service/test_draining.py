"""SIGTERM: not ready at once, requests still taken for a moment, work in hand finished."""

import asyncio
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from tests.service.conftest import serve

from llmcxr_service.app import create_app
from llmcxr_service.draining import Draining, DrainingServer

NOTICE_SECONDS = 3.0


@pytest.fixture
def service(make_settings, vllm):
    """A gateway whose server is told of a signal as Python's own handler would tell it."""
    with socket.create_server(("127.0.0.1", 0)) as listener, serve(vllm.app()) as vllm_url:
        app = create_app(make_settings(vllm_url=vllm_url))
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=20)
        server = DrainingServer(config, app.state.draining, NOTICE_SECONDS)
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
        thread.start()
        try:
            yield server, thread, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def get(url, path):
    try:
        return httpx.get(f"{url}{path}", trust_env=False, timeout=20.0).status_code
    except httpx.HTTPError:
        return 0


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(url):
    body = {"instruction": "Explain."}
    return httpx.post(f"{url}/instruct", json=body, trust_env=False, timeout=60.0).status_code


def test_sigterm_drains(service, vllm):
    server, thread, url = service
    wait_for(lambda: get(url, "/health/ready") == 200, 60)
    vllm.delay_seconds = 2.0 * NOTICE_SECONDS
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(ask, url)
        wait_for(lambda: vllm.running == 1, 20)
        server.handle_exit(signal.SIGTERM, None)
        assert get(url, "/health/ready") == 503
        assert get(url, "/health/live") == 200
        meanwhile = pool.submit(ask, url)
        wait_for(lambda: vllm.running == 2, NOTICE_SECONDS)
        assert (before.result(), meanwhile.result()) == (200, 200)
    thread.join(20)
    assert not thread.is_alive()
    assert get(url, "/health/live") == 0


def test_a_second_signal_ends_the_notice():
    draining = Draining()
    server = DrainingServer(_config(), draining, 60.0)
    server.handle_exit(signal.SIGTERM, None)
    assert draining.begun
    assert not server.should_exit
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit


def test_ctrl_c_has_no_notice():
    draining = Draining()
    server = DrainingServer(_config(), draining, 60.0)
    server.handle_exit(signal.SIGINT, None)
    assert draining.begun
    assert server.should_exit


def _config():
    return uvicorn.Config(lambda: None)
