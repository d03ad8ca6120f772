"""Program: a run by the command on a real Ray, killed on the way and gone on with.

Arguments: checkpoint, folder of radiographs, directory of the run. Prints JSON. Meant for a
network namespace, because Ray listens on every address.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.fakes import FakeVllm
from tests.service.conftest import serve

from llmcxr_models.checkpoint import read_manifest
from llmcxr_service.batch.worker import parts_of


def main(checkpoint: Path, folder: Path, run: Path) -> None:
    """Kill a run once it has written something, go on with it, then ask for it once more."""
    manifest = read_manifest(checkpoint)
    fake = FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )
    fake.delay_seconds = 0.3
    with serve(fake.app()) as url:
        environment = {
            **os.environ,
            "LLMCXR_CHECKPOINT": str(checkpoint),
            "LLMCXR_VLLM_URL": url,
            "LLMCXR_DEVICE": "cpu",
            "LLMCXR_DECODE_WORKERS": "1",
        }
        command = [sys.executable, "-m", "llmcxr_service", "batch", str(folder), str(run)]
        command += ["--shard-size", "2", "--concurrency", "1"]
        first = subprocess.Popen(command, env=environment, start_new_session=True)
        while not parts_of(run) and first.poll() is None:
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        before = [path.name for path in parts_of(run)]
        kept = [path.read_bytes() for path in parts_of(run)]
        statuses = []
        for _ in range(2):
            done = subprocess.run(command, env=environment, check=False, timeout=500)
            statuses.append(done.returncode)
        unchanged = kept == [(run / "parts" / name).read_bytes() for name in before]
    told = {"before": before, "statuses": statuses, "unchanged": unchanged}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
