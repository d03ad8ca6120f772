"""`llmcxr image`, and a batch, against a service that is closed, over a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.fakes import FakeVllm
from tests.service.conftest import serve
from typer.testing import CliRunner

from llmcxr_service.__main__ import app as cli
from llmcxr_service.access.callers import Scope
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings


@pytest.fixture
def url(
    make_settings: Callable[..., Settings], vllm: FakeVllm, keys: Path, tmp_path: Path
) -> Iterator[str]:
    settings = make_settings(open=False, keys=keys, jobs=True, spool=tmp_path / "spool")
    with serve(create_app(settings, transport=httpx.ASGITransport(vllm.app()))) as address:
        yield address


def test_a_key_comes_from_a_file(
    url: str, make_key: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, png = tmp_path / "key", tmp_path / "drawn.png"
    call = ["image", "The lungs are clear.", "-o", str(png), "--url", url]
    refused = CliRunner().invoke(cli, call)
    assert refused.exit_code == 1
    assert "(401)" in refused.output
    # By the option ...
    file.write_text(make_key(Scope.IMAGE) + "\n")
    assert CliRunner().invoke(cli, [*call, "--key-file", str(file)]).exit_code == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    # ... and by the setting; another scope is not enough.
    monkeypatch.setenv("LLMCXR_KEY_FILE", str(file))
    assert CliRunner().invoke(cli, call).exit_code == 0
    key = make_key(Scope.REPORT)
    file.write_text(key)
    lacking = CliRunner().invoke(cli, call)
    assert lacking.exit_code == 1
    assert "(403)" in lacking.output
    assert key not in lacking.output


async def test_a_batch_needs_the_scope_of_its_task(url: str, make_key: Callable[..., str]) -> None:
    batch = {"task": "generate-image", "items": [{"report": "The lungs are clear."}]}
    headers = {"Authorization": f"Bearer {make_key(Scope.REPORT)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        answer = await client.post("/jobs", json=batch)
    assert answer.status_code == 403
