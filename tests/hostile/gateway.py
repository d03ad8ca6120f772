"""The real application on a tiny checkpoint, with a fake vLLM at its wire."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from tests.checkpoints import build_checkpoint
from tests.fakes import FakeVllm

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings


@asynccontextmanager
async def gateway(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running gateway."""
    async with gateway_and_app(**changes) as (client, _):
        yield client


@asynccontextmanager
async def gateway_and_app(**changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """A client of a running gateway, and the application."""
    with tempfile.TemporaryDirectory() as folder:
        path = build_checkpoint(Path(folder) / "tiny")
        manifest = Checkpoint.open(path).manifest
        vllm = FakeVllm(
            manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
        )
        defaults = {"checkpoint": path, "open": True, "device": "cpu", "vqgan_threads": 1}
        settings = Settings(**{**defaults, **changes})
        app = create_app(settings, transport=httpx.ASGITransport(vllm.app()))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://gateway", timeout=120.0
            ) as client,
        ):
            yield client, app
