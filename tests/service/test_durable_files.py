"""Files that are there wholly or not at all; of one that cannot be written nothing is left."""

import subprocess
import sys

from llmcxr_service.durable_files import replace, write_once

PROGRAM = """
import resource, sys
from pathlib import Path
from llmcxr_service.durable_files import replace, write_once
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
for write in (replace, write_once):
    try:
        write(path, b"x" * 100_000)
    except OSError:
        print("refused")
"""


def test_nothing_is_left_of_what_does_not_fit(tmp_path):
    path = tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused", "refused"]
    assert list(tmp_path.iterdir()) == []


def test_the_first_one_stays_and_one_that_is_replaced_does_not(tmp_path):
    path = tmp_path / "file"
    assert write_once(path, b"first")
    assert not write_once(path, b"second")
    assert path.read_bytes() == b"first"
    replace(path, b"third")
    assert path.read_bytes() == b"third"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
