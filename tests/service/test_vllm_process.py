"""The supervisor with a real vLLM that cannot start: the tiny checkpoint has no weights."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.service.conftest import until

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.vllm_process import VllmOptions, VllmStartError, VllmState, VllmSupervisor


def _options(directory: Path) -> VllmOptions:
    return VllmOptions(eager=True, kv_cache_gib=0.25, dtype="float32", log_directory=directory)


@pytest.mark.vllm
async def test_failed_start_quotes_the_log_and_is_tried_again(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    supervisor = VllmSupervisor(checkpoint, _options(tmp_path))
    await supervisor.start()
    try:
        with pytest.raises(VllmStartError) as caught:
            await asyncio.wait_for(supervisor.wait_ready(), 240)
        assert "ended with status" in str(caught.value)
        assert str(supervisor.log_file) in str(caught.value)
        assert "Error" in str(caught.value)
        assert supervisor.api_key.get_secret_value() not in supervisor.log_file.read_text()
        assert not supervisor.is_ready
        await until(lambda: supervisor.restarts > 0, 60)
    finally:
        await supervisor.stop()
    assert supervisor.state is VllmState.STOPPED
    assert supervisor.pid is None


@pytest.mark.vllm
async def test_stop_during_the_start_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    supervisor = VllmSupervisor(checkpoint, _options(tmp_path))
    await supervisor.start()
    await until(lambda: supervisor.pid is not None, 10)
    group = supervisor.pid
    assert supervisor.state is VllmState.STARTING
    assert supervisor.retry_after_seconds >= 2
    await supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


async def test_stop_without_start(checkpoint: Checkpoint, tmp_path: Path) -> None:
    await VllmSupervisor(checkpoint, _options(tmp_path)).stop()


async def test_key_is_random_and_the_port_is_its_own(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    first, second = (VllmSupervisor(checkpoint, _options(tmp_path)) for _ in range(2))
    assert first.api_key != second.api_key
    assert first.url.startswith("http://127.0.0.1:")


async def test_log_directory_that_cannot_be_made(checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = _options(checkpoint.path / "manifest.json" / "logs")
    with pytest.raises(VllmStartError):
        await VllmSupervisor(checkpoint, options).start()
