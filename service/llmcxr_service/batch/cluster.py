"""Ray: one machine, or a cluster by its address.

Ray's servers listen on every address and run what they are sent. A run on this machine therefore
has a token of its own that they ask for; a cluster's operator sets RAY_AUTH_MODE and its token.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_OBJECT_STORE_BYTES = 256 * 1024 * 1024
"""Only numbers of shards go through it."""


@dataclass(frozen=True)
class Workers:
    """How much of a machine or cluster a run takes.

    Attributes:
        count: of workers.
        cpus: processors that are set aside for each.
        gpus: the same for GPUs; a part of one is shared.
        address: of a cluster's head; where empty, this machine.
    """

    count: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    address: str = ""


@contextmanager
def ray_started(workers: Workers) -> Iterator[None]:
    """Start Ray on this machine or join a cluster, and leave it again.

    Raises:
        ConnectionError: there is no cluster at the address.
    """
    # Read when ray is loaded: it sends no statistics, and leaves GPUs visible as they are.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it has the files of its session
    if not workers.address:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    here: dict[str, Any] = {
        "num_cpus": max(1, round(workers.count * workers.cpus) + 1),  # and one for reading
        "num_gpus": workers.count * workers.gpus or None,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
    }
    options = {"address": workers.address} if workers.address else here
    ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    try:
        yield
    finally:
        ray.shutdown()


def shards_done(
    shards: list[int], work: type, arguments: tuple[Any, ...], workers: Workers
) -> Iterator[dict[str, Any]]:
    """Give shards to workers; what each says when a shard is done, in any order.

    Args:
        shards: numbers.
        work: class whose instances take `{"shard": number}`; one is made in each worker.
        arguments: to make one.
        workers: how many, and of what.

    Raises:
        ray.exceptions.RayError: a worker raised, or was lost too often.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.max_errored_blocks = 0
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # A shard is a block: what is done is heard of at once, and lost work is one shard.
    listed = ray.data.from_items([{"shard": n} for n in shards], override_num_blocks=len(shards))
    done = listed.map(
        work,
        fn_constructor_args=arguments,
        compute=ActorPoolStrategy(size=workers.count, max_tasks_in_flight_per_actor=1),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus or None,
    )
    yield from done.iter_rows()
