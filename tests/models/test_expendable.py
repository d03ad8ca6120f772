"""The limit of processor time on decoding, in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

_ENDLESS = """
from llmcxr_models.expendable import allow_time_for, declare_expendable
{declaration}
allow_time_for(100)
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
started = used.ru_utime + used.ru_stime
while used.ru_utime + used.ru_stime < started + 6:
    used = resource.getrusage(resource.RUSAGE_SELF)
"""


def run(declaration: str) -> int:
    program = _ENDLESS.format(declaration=declaration)
    return subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode


def test_an_expendable_process_that_loops_is_ended():
    assert run("declare_expendable()") == -signal.SIGXCPU


def test_another_process_is_left_alone():
    assert run("") == 0
