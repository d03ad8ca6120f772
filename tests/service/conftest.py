"""A gateway in this process with a fake vLLM at its wire, and real servers on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from tests.fakes import FakeVllm

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings


@dataclass
class Gateway:
    """A running gateway: a client of it, the fake behind it, the application."""

    client: httpx.AsyncClient
    vllm: FakeVllm
    app: FastAPI

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one metric, 0 where it was never touched."""
        value = self.app.state.runtime.metrics.registry.get_sample_value(name, labels)
        return value or 0.0


StartGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def vllm(checkpoint: Checkpoint) -> FakeVllm:
    manifest = checkpoint.manifest
    return FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )


@pytest.fixture
def make_settings(checkpoint_path: Path) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        defaults = {
            "checkpoint": checkpoint_path,
            "device": "cpu",
            # Who may call is tested on its own, in tests/service/access.
            "open": True,
            "vqgan_threads": 1,
            "vqgan_decode_dtype": "float32",  # the same on every machine
            "micro_batch_size": 8,
            "micro_batch_wait_ms": 2.0,
        }
        return Settings(**{**defaults, **changes})

    return make


@pytest.fixture
def start_gateway(make_settings: Callable[..., Settings], vllm: FakeVllm) -> StartGateway:
    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Gateway]:
        app = create_app(make_settings(**changes), transport=httpx.ASGITransport(vllm.app()))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://gateway", timeout=30.0
            ) as client,
        ):
            yield Gateway(client, vllm, app)

    return start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> AsyncIterator[Gateway]:
    async with start_gateway() as running:
        yield running


@contextmanager
def serve(app: ASGIApp, **options: Any) -> Iterator[str]:
    """A real uvicorn on a free loopback port, in a thread; yields its URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=2, **options
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            thread.join(0.01)
        scheme = "https" if config.is_ssl else "http"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


async def until(condition: Callable[[], bool], seconds: float) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")
