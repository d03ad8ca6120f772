"""The spool keeps files for our eyes only, wholly or not at all."""

import os
import stat

from llmcxr_service.deliveries.replicas import SILENT_SECONDS, Replicas
from llmcxr_service.deliveries.spool import Spool
from llmcxr_service.source_instance import SourceInstance

IDENTITY = SourceInstance("1.2", "1.3", "1.4", "1.5", patient_id="INVENTED")


def test_ids_are_stable_and_opaque(tmp_path):
    first, again = Spool(tmp_path / "a"), Spool(tmp_path / "a")
    assert first.job_id("1.2.3") == again.job_id("1.2.3")
    assert first.job_id("1.2.3") != first.job_id("1.2.4")
    # Another installation's ids tell nothing about ours.
    assert first.job_id("1.2.3") != Spool(tmp_path / "b").job_id("1.2.3")
    assert len(first.job_id("1.2.3")) == 32


def test_source_then_outputs(tmp_path):
    spool = Spool(tmp_path)
    job = spool.job_id("1.2.3")
    assert spool.source(job) is None
    spool.put_source(job, b"pixels", IDENTITY)
    assert spool.source(job) == (b"pixels", IDENTITY)
    assert not spool.has_outputs(job)
    spool.put_outputs(job, {"enhanced-sr": b"one", "fhir": b"two"})
    assert spool.outputs(job) == ("enhanced-sr", "fhir")
    assert spool.output(job, "enhanced-sr") == b"one"
    assert spool.output(job, "hl7") is None
    # The source is of no more use.
    assert spool.source(job) is None


def test_the_first_outputs_stay(tmp_path):
    spool = Spool(tmp_path)
    job = spool.job_id("1.2.3")
    spool.put_source(job, b"pixels", IDENTITY)
    spool.put_outputs(job, {"hl7": b"first"})
    spool.put_outputs(job, {"hl7": b"second"})
    assert spool.output(job, "hl7") == b"first"
    assert [name for name, _ in spool.jobs()] == [job]
    spool.remove(job)
    assert list(spool.jobs()) == []


def test_modes_do_not_depend_on_the_umask(tmp_path):
    old = os.umask(0)
    try:
        spool = Spool(tmp_path / "spool")
        job = spool.job_id("1")
        spool.put_source(job, b"pixels", IDENTITY)
        spool.put_outputs(job, {"hl7": b"text"})
        Replicas(spool.root, "one")
    finally:
        os.umask(old)
    for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_silence_is_noticed(tmp_path):
    spool = Spool(tmp_path)
    one, two = Replicas(spool.root, "one"), Replicas(spool.root, "two")
    assert one.silent() == two.silent() == []
    past = (tmp_path / "replicas" / "one").stat().st_mtime - SILENT_SECONDS - 1
    os.utime(tmp_path / "replicas" / "two", (past, past))
    assert one.silent() == ["two"]
    one.bury("two")
    assert one.silent() == []
    two.beat()
    assert one.silent() == []
