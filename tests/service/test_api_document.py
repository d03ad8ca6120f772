"""The examples of docs/api.md are run as they stand, against a real server on loopback."""

import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.checkpoints import build_checkpoint
from tests.guidances import with_guidance
from tests.judges import drawn_judge, with_judge
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8080"
# These need archives, rules, jobs or keys, which the configuration of this test has not.
CONFIGURED = ("dicomweb", "dicom-web", "/jobs", "Authorization", "X-API-Key", "--cert")
# A status that is an error must be one for curl, and nothing may be left unsaid.
BEFORE = 'set -euo pipefail\ncurl() { command curl --fail-with-body --noproxy "*" "$@"; }\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


EXAMPLES = [b for b in blocks("sh") if not any(word in b for word in CONFIGURED)]


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory):
    """With a judge and with tables to guide by, which examples ask for."""
    folder = tmp_path_factory.mktemp("checkpoints")
    judged = with_judge(build_checkpoint(folder / "plain"), folder / "judged", drawn_judge())
    return with_guidance(judged, folder / "guided")


@pytest.fixture(scope="module")
def checkpoint(checkpoint_path):
    return Checkpoint.open(checkpoint_path)


@pytest.fixture
def place(make_settings, vllm, checkpoint, tmp_path):
    """A folder with the samples, and the address of a service."""
    words = "Findings: The lungs are clear. Impression: No acute disease."
    stop = checkpoint.manifest.vocabulary.stop_token_ids[0]
    vllm.answer = [*checkpoint.load_tokenizer().encode_text(words), stop]
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / "key").write_text("not asked for here")
    with serve(create_app(make_settings(), transport=httpx.ASGITransport(vllm.app()))) as url:
        yield tmp_path, url


def test_there_are_examples():
    assert len(EXAMPLES) >= 6
    assert sum(block.count("curl ") for block in EXAMPLES) >= 10


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_shell(place, example):
    folder, url = place
    script = BEFORE + example.replace(ADDRESS, url)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (example, done.stdout[-500:], done.stderr[-500:])
    assert b"event: error" not in done.stdout


@pytest.mark.parametrize("example", blocks("python"))
def test_python(place, example, monkeypatch):
    folder, url = place
    monkeypatch.chdir(folder)
    exec(compile(example.replace(ADDRESS, url), "docs/api.md", "exec"), {})
    assert (folder / "drawn.png").read_bytes().startswith(b"\x89PNG")
