"""Programs that are installed must run here: else tests with them would be skipped unseen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.postgresql import open_cluster
from tests.redis_server import open_redis


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_redis() -> None:
    with open_redis() as server:
        assert server.process.poll() is None


@pytest.mark.skipif(
    not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and shutil.which("initdb") is None,
    reason="PostgreSQL is not installed",
)
def test_postgresql(tmp_path: Path) -> None:
    with open_cluster(tmp_path) as cluster:
        assert cluster.new_database()
