"""What section `contract` tries: a gateway with every route in use, and files worth sending it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import schemathesis
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from tests.archive import Archive
from tests.fakes import FakeVllm
from tests.pictures import dicom, jpeg, png
from tests.service.conftest import serve
from tests.service.receiving.conftest import DESTINATIONS, RULES

from llmcxr_models.checkpoint import read_manifest
from llmcxr_service.access.callers import Scope
from llmcxr_service.access.key_file import add_key
from llmcxr_service.access.keys import new_key
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings

BOUNDARY = "8c1f5e"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@contextmanager
def full_gateway(checkpoint: Path, folder: Path, *, guarded: bool) -> Iterator[tuple[str, str]]:
    """Run one on loopback; its URL, and an API key with every scope.

    Args:
        checkpoint: to serve.
        folder: an empty one.
        guarded: whether the key is needed.
    """
    manifest = read_manifest(checkpoint)
    vllm = FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )
    text, key = new_key("contract", tuple(Scope))
    add_key(folder / "keys.json", key)
    with ExitStack() as stack:
        archive = stack.enter_context(serve(Archive().app()))
        (folder / "rules.toml").write_text(RULES)
        (folder / "destinations.toml").write_text(DESTINATIONS.format(url=archive))
        settings = Settings(
            checkpoint=checkpoint,
            open=not guarded,
            keys=folder / "keys.json",
            rate_limit="off",
            device="cpu",
            vqgan_threads=1,
            decode_workers=1,
            vllm_url=stack.enter_context(serve(vllm.app())),
            jobs=True,
            spool=folder / "spool",
            audit=folder / "audit",
            dicom_rules=folder / "rules.toml",
            destinations=folder / "destinations.toml",
        )
        yield stack.enter_context(serve(create_app(settings))), text


def register_files() -> None:
    """Radiographs for schemathesis, since it knows none; beside them bytes of any kind."""
    radiographs = {
        "image/png": [png(seed) for seed in range(3)],
        "image/jpeg": [jpeg(seed) for seed in range(3)],
        "application/dicom": [_instance(seed) for seed in range(3)],
    }
    every = [file for files in radiographs.values() for file in files]
    for media_type, files in radiographs.items():
        schemathesis.openapi.media_type(media_type, st.sampled_from(files) | st.binary())
    anything = st.sampled_from(every) | st.binary()
    schemathesis.openapi.media_type("application/octet-stream", anything)
    parts = st.lists(st.sampled_from(radiographs["application/dicom"]) | st.binary(), max_size=3)
    schemathesis.openapi.media_type("multipart/related", parts.map(_related) | st.binary())


def _instance(seed: int) -> bytes:
    return dicom(seed, StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())


def _related(parts: list[bytes]) -> bytes:
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part for part in parts) + f"\r\n--{BOUNDARY}--\r\n".encode()
