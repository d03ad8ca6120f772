"""A vLLM for a run on this machine: started before the workers, ended after them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.errors import BatchError
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_process import VllmStartError, VllmSupervisor
from llmcxr_service.vllm_settings import vllm_options


@contextmanager
def with_model_server(settings: Settings, checkpoint: Checkpoint) -> Iterator[Settings]:
    """Settings with the address of a vLLM: those that were given, or one of our own.

    Raises:
        BatchError: it does not start.
    """
    if settings.vllm_urls:
        yield settings
        return
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="vllm", daemon=True)
    thread.start()
    own = VllmSupervisor(checkpoint, vllm_options(settings))
    try:
        asyncio.run_coroutine_threadsafe(_start(own), loop).result()
        yield settings.model_copy(update={"vllm_url": own.url, "vllm_api_key": own.api_key})
    except VllmStartError:
        raise BatchError(f"vLLM does not start; {own.log_file} says why.") from None
    finally:
        asyncio.run_coroutine_threadsafe(own.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(own: VllmSupervisor) -> None:
    await own.start()
    await own.wait_ready()
