"""The language model as the runtime opens it: vLLM servers that were named, or one of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from llmcxr_models.checkpoint import Checkpoint, Manifest
from llmcxr_service.circuit import Circuit
from llmcxr_service.generator import Endpoint, FixedEndpoint, Generator, VllmGenerator
from llmcxr_service.observability import Metrics
from llmcxr_service.readiness import AnyReadiness, OwnProcess, Readiness
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_replicas import Replica, Replicas

# vLLM closes an idle connection after 5 seconds; ours must go first, or a request would be
# sent into a connection that is just being closed.
_KEEPALIVE_SECONDS = 2.0


@dataclass(frozen=True)
class LanguageModel:
    """What the runtime needs of it.

    Attributes:
        generator: asks it.
        readiness: whether it can be asked.
    """

    generator: Generator
    readiness: AnyReadiness


@asynccontextmanager
async def open_language_model(
    settings: Settings,
    checkpoint: Checkpoint,
    metrics: Metrics,
    transport: httpx.AsyncBaseTransport | None,
) -> AsyncIterator[LanguageModel]:
    """Start what must run, and stop it at the end; nothing is waited for.

    Args:
        settings: the configuration.
        checkpoint: what is served.
        metrics: where to count.
        transport: how vLLM is reached instead of over the network; then none is started.
    """
    async with AsyncExitStack() as stack:
        process: OwnProcess | None = None
        endpoints: Sequence[Endpoint]
        if settings.vllm_urls:
            endpoints = [FixedEndpoint(u, settings.vllm_api_key) for u in settings.vllm_urls]
        elif transport is not None:
            endpoints = [FixedEndpoint("http://vllm", settings.vllm_api_key)]
        else:
            from llmcxr_service.vllm_process import VllmSupervisor
            from llmcxr_service.vllm_settings import vllm_options

            own = VllmSupervisor(checkpoint, vllm_options(settings))
            await own.start()
            stack.push_async_callback(own.stop)
            process, endpoints = own, [own]
        looks = _Looks(metrics)
        replicas = []
        for index, endpoint in enumerate(endpoints):
            # Each has a pool of its own: one that hangs takes no connections from the others.
            client = await stack.enter_async_context(_client(settings, transport))
            replicas.append(
                _replica(index, endpoint, client, settings, checkpoint.manifest, looks, process)
            )
        readiness = AnyReadiness([replica.readiness for replica in replicas])
        readiness.start()
        stack.push_async_callback(readiness.stop)
        yield LanguageModel(Replicas(replicas, metrics), readiness)


class _Looks:
    """What the latest look at each replica found, as metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._up: dict[int, bool] = {}

    def note(self, index: int, up: bool) -> None:
        self._up[index] = up
        self.metrics.vllm_replica_up.labels(str(index)).set(up)
        self.metrics.vllm_up.set(any(self._up.values()))


def _replica(
    index: int,
    endpoint: Endpoint,
    client: httpx.AsyncClient,
    settings: Settings,
    manifest: Manifest,
    looks: _Looks,
    process: OwnProcess | None,
) -> Replica:
    return Replica(
        index,
        VllmGenerator(
            client,
            endpoint,
            manifest.served_name,
            timeout_seconds=settings.request_timeout_seconds,
        ),
        Readiness(
            client,
            endpoint,
            manifest,
            on_change=lambda up: looks.note(index, up),
            process=process,
        ),
        Circuit(looks.metrics.vllm_circuit_open.labels(str(index)).set),
    )


def _client(settings: Settings, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(
            settings.request_timeout_seconds, connect=settings.vllm_connect_timeout_seconds
        ),
        limits=httpx.Limits(
            max_connections=settings.vllm_max_connections, keepalive_expiry=_KEEPALIVE_SECONDS
        ),
        follow_redirects=False,
        # No proxy and no .netrc: the environment is read in one place only.
        trust_env=False,
    )
