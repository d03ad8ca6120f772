"""Decode workers: the same answers as in process, and nothing that happens to them hurts."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.hostile.killers import aborts_gdcm
from tests.pictures import PATIENT, dicom, huge_png, jpeg, png

import llmcxr_models
from llmcxr_models.errors import CxrError, InvalidRadiograph, UnsupportedRadiograph
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.radiograph_file import read_radiograph
from llmcxr_service import decode_wire as wire
from llmcxr_service.decode_pool import DecodePool, Restart
from llmcxr_service.decode_template import WorkerOptions
from llmcxr_service.errors import Overloaded

CRASHERS = Path(__file__).resolve().parents[1] / "hostile" / "crashers"


@asynccontextmanager
async def start_pool(
    seconds: float = 20.0, memory_mib: int = 1024, files: int = 1, **changes: Any
) -> AsyncIterator[tuple[DecodePool, Counter[Restart]]]:
    restarts: Counter[Restart] = Counter()
    pool = DecodePool(
        WorkerOptions(Pipeline.DISPLAY, memory_mib, seconds, files),
        on_restart=lambda reason: restarts.update([reason]),
        **{"workers": 2, **changes},
    )
    pool.start()
    try:
        yield pool, restarts
    finally:
        await pool.stop()


def worker_processes() -> list[int]:
    """Template and workers of this test process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"llmcxr_service.decode_worker" in command and b"-c" not in command.split(b"\0"):
            found.append(int(folder.name))
    ours = {pid for pid in found if _parent(pid) == os.getpid()}
    return [pid for pid in found if pid in ours or _parent(pid) in ours]


def _proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _stream(pid: int, number: int) -> Path:
    return Path(f"/proc/{pid}/fd/{number}").readlink()


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


@pytest.mark.parametrize("files", [1, 20])
async def test_the_same_pictures_as_in_process(files):
    async with start_pool(files=files) as (pool, restarts):
        for data in (dicom(1), png(2), jpeg(3), dicom(4, PixelSpacing=[1, 2])):
            expected = read_radiograph(data)
            decoded = await pool.radiograph(data)
            np.testing.assert_array_equal(decoded.pixels, expected.pixels)
            assert decoded.media_type is expected.media_type
            assert decoded.warnings == expected.warnings
            assert decoded.view_position == expected.view_position
        assert not restarts


async def test_the_source_comes_with_it():
    uid = "1.2.826.0.1.3680043.8.498.1"
    data = dicom(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.2", AccessionNumber="A1")
    async with start_pool() as (pool, _):
        source = (await pool.decode(data)).source
        assert source is not None
        assert source.study_instance_uid == uid
        assert source.accession_number == "A1"
        assert source.patient_name == PATIENT
        assert (await pool.decode(dicom())).source is None
        assert (await pool.decode(png())).source is None
        assert (await pool.decode(data, with_source=False)).source is None


async def test_an_instance_is_identified_by_its_header_alone():
    uid = "1.2.826.0.1.3680043.8.498.1"
    ids = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.2"}
    ct = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "StationName": "ROOM 3"}
    async with start_pool() as (pool, restarts):
        source = await pool.identify(dicom(PixelData=b"none", **ids, **ct))
        assert (source.modality, source.station_name) == ("CT", "ROOM 3")
        for data in (b"", png(), dicom(), dicom(**ids)[:300]):
            with pytest.raises(InvalidRadiograph):
                await pool.identify(data)
        assert not restarts


@pytest.mark.parametrize(
    "data",
    [b"", b"text", png()[:-200], huge_png(), dicom()[:-900], dicom(BodyPartExamined="HAND")],
    ids=["empty", "text", "cut", "huge", "cut-dicom", "hand"],
)
async def test_refusals_are_those_of_the_decoder(data):
    with pytest.raises(CxrError) as expected:
        read_radiograph(data)
    async with start_pool() as (pool, restarts):
        with pytest.raises(CxrError) as refusal:
            await pool.decode(data)
        assert type(refusal.value) is type(expected.value)
        assert refusal.value.reason == expected.value.reason
        assert str(refusal.value) == str(expected.value)
        assert not restarts


async def test_a_file_that_aborts_its_process():
    async with start_pool() as (pool, restarts):
        with pytest.raises(InvalidRadiograph) as refusal:
            await pool.decode(aborts_gdcm())
        assert refusal.value.reason == "decoder-died"
        assert restarts == {Restart.DIED: 2}
        assert (await pool.radiograph(png())).pixels.shape == (80, 72)


async def test_a_file_on_which_a_decoder_may_loop_for_ever():
    """Found by fuzzing: CharLS 2.4 reads beyond the end, and what it finds there decides.

    It is tried twice: the second process may find something else there than the first.
    """
    data = next(CRASHERS.glob("timeout-*")).read_bytes()
    async with start_pool(seconds=60.0) as (pool, restarts):
        with pytest.raises(InvalidRadiograph) as refusal:
            await pool.decode(data)
        looped = refusal.value.reason == "decoder-died"
        assert looped or refusal.value.reason == "corrupt"
        assert set(restarts) <= {Restart.DIED}
        assert restarts[Restart.DIED] == 2 if looped else restarts[Restart.DIED] < 2


async def test_a_file_that_takes_too_long():
    async with start_pool(seconds=0.0001) as (pool, restarts):
        with pytest.raises(InvalidRadiograph) as refusal:
            await pool.decode(dicom())
        assert refusal.value.reason == "timeout"
        assert restarts == {Restart.TIMEOUT: 1}


async def test_a_picture_that_needs_too_much_memory():
    async with start_pool(memory_mib=320) as (pool, restarts):
        with pytest.raises(UnsupportedRadiograph) as refusal:
            await pool.decode(png(size=(7000, 7000)))
        assert refusal.value.reason == "memory"
        assert not restarts


async def test_whoever_gives_up_has_his_worker_replaced():
    async with start_pool(workers=1) as (pool, restarts):
        await pool.radiograph(png())
        work = asyncio.create_task(pool.radiograph(png(size=(6000, 6000))))
        await asyncio.sleep(0.1)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert restarts == {Restart.CANCELLED: 1}
        assert (await pool.radiograph(png())).pixels.shape == (80, 72)


async def test_a_full_queue_refuses():
    async with start_pool(workers=1, most_waiting=2) as (pool, _):
        works = [asyncio.create_task(pool.radiograph(png(i))) for i in range(6)]
        done = await asyncio.gather(*works, return_exceptions=True)
        refused = [answer for answer in done if isinstance(answer, Overloaded)]
        assert 1 <= len(refused) <= 4
        assert refused[0].retry_after_seconds >= 1


async def test_killed_processes_come_back():
    async with start_pool() as (pool, restarts):
        await pool.radiograph(png())
        for pid in worker_processes():
            with suppress(ProcessLookupError):  # workers follow their template
                os.kill(pid, signal.SIGKILL)
        for i in range(6):
            with suppress(InvalidRadiograph):  # two workers that were killed are two that died
                await pool.radiograph(png(i))
        assert (await pool.radiograph(png())).pixels.shape == (80, 72)
        assert restarts[Restart.TEMPLATE] >= 1


async def settled():
    """The processes of a pool that has replaced what it used."""
    before, now = None, worker_processes()
    while now != before:
        await asyncio.sleep(0.5)
        before, now = now, worker_processes()
    return now


async def test_workers_have_limits_and_no_secrets_and_end(monkeypatch):
    monkeypatch.setenv("LLMCXR_VLLM_API_KEY", "Zq7-secret")
    async with start_pool() as (pool, _):
        await pool.radiograph(png())
        processes = await settled()
        template = next(pid for pid in processes if _parent(pid) == os.getpid())
        workers = [pid for pid in processes if pid != template]
        assert workers
        for pid in processes:
            assert b"Zq7-secret" not in _proc(pid, "environ")
            assert all(str(_stream(pid, number)) == os.devnull for number in (0, 1, 2))
        limits = _proc(workers[0], "limits").decode()
        assert f"{1024 << 20}" in limits
        assert "Max file size             0 " in limits
    async with asyncio.timeout(5):
        while worker_processes():  # noqa: ASYNC110 - other processes tell us nothing
            await asyncio.sleep(0.02)


def test_a_worker_imports_only_what_it_needs():
    program = (
        "import sys, llmcxr_service.decode_worker\n"
        "print([m for m in ('torch', 'fastapi', 'starlette', 'pydantic', 'httpx', 'tokenizers')"
        " if m in sys.modules])"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_reason_of_the_decoders_is_known():
    folder = Path(llmcxr_models.__file__).parent
    files = [*folder.glob("dicom_*.py"), *folder.glob("radiograph*.py")]
    used = {
        keyword.value.value
        for file in files
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant)
    }
    assert used
    assert used <= wire.REASONS


GOOD = {
    "rows": 2,
    "columns": 3,
    "media_type": "image/png",
    "modality": "",
    "view_position": "",
    "body_part": "",
    "warnings": [],
    "source": None,
}
PIXELS = np.zeros(6, np.float32)


def test_a_good_answer():
    assert wire.unpack(json.dumps(GOOD).encode(), PIXELS).radiograph.pixels.shape == (2, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": -1},
        {"rows": 6, "columns": 6},
        {"rows": "2"},
        {"rows": True},
        {"media_type": "text/html"},
        {"modality": "X" * 2000},
        {"modality": 7},
        {"modality": "a\nb"},
        {"warnings": [None]},
        {"warnings": None},
        {"source": {}},
        {"source": dict.fromkeys(("sop_class_uid",), "1.2")},
        {"error": "SystemExit", "reason": "corrupt", "message": ""},
        {"error": "InvalidRadiograph", "reason": "SMITH^JOHN", "message": ""},
        {"error": "InvalidRadiograph", "reason": ["corrupt"], "message": ""},
        {"error": "InvalidRadiograph"},
    ],
)
def test_answers_that_are_not_believed(change):
    with pytest.raises(wire.WireError):
        wire.unpack(json.dumps({**GOOD, **change}).encode(), PIXELS)


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 10_000])
def test_answers_that_are_no_object(text):
    with pytest.raises(wire.WireError):
        wire.unpack(text, PIXELS)


@pytest.mark.parametrize("lengths", [(1 << 20, 0), (10, 1 << 40), (10, 7)])
def test_lengths_that_are_not_believed(lengths):
    with pytest.raises(wire.WireError):
        wire.unpack_lengths(wire.ANSWER.pack(*lengths))
