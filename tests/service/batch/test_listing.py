"""What a run is about: folders, manifests, archives."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet as parquet
import pytest

from llmcxr_service.batch.archive_query import days
from llmcxr_service.batch.listing import list_files
from llmcxr_service.errors import BatchError


def names(items):
    return [item.path.rsplit("/", 1)[1] for item in items]


def test_a_folder_is_listed_in_order_without_what_is_no_radiograph(tmp_path):
    for name in ("b/2", "b/1.dcm", "a.png", ".hidden/x", ".y", "DICOMDIR", "c/d/e/IM0001"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a.png")
    items = list(list_files(tmp_path))
    assert names(items) == ["a.png", "1.dcm", "2", "IM0001"]
    assert [item.number for item in items] == [0, 1, 2, 3]


ROWS = [{"path": "a.dcm", "indication": "Cough"}, {"path": "sub/b.png", "indication": ""}]


def write_csv(file):
    file.write_text("﻿path,indication,more\na.dcm,Cough,1\nsub/b.png,,2\n", encoding="utf-8")


def write_jsonl(file):
    file.write_text("".join(f"{json.dumps(row)}\n\n" for row in ROWS))


def write_parquet(file):
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)


@pytest.mark.parametrize(
    ("name", "write"),
    [("m.csv", write_csv), ("m.jsonl", write_jsonl), ("m.parquet", write_parquet)],
)
def test_manifests(tmp_path, name, write):
    write(tmp_path / name)
    items = list(list_files(tmp_path / name))
    assert [item.path for item in items] == [
        str(tmp_path / "a.dcm"),
        str(tmp_path / "sub" / "b.png"),
    ]
    assert [item.indication for item in items] == ["Cough", ""]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b"file\na.dcm\n"),
        ("m.jsonl", b"{"),
        ("m.jsonl", b"[1]"),
        ("m.jsonl", b'{"path": 3}'),
        ("m.parquet", b"none"),
        ("m.csv", b"\xff\xfe"),
        ("m.txt", b"path"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BatchError):
        list(list_files(tmp_path / name))


def test_nothing_there(tmp_path):
    with pytest.raises(BatchError):
        list_files(tmp_path / "none")


def test_days_of_a_range():
    assert days("20241230-20250102") == ["20241230", "20241231", "20250101", "20250102"]
    assert days("") == [""]
    assert days("20250101") == ["20250101"]
    assert days("20250101-") == ["20250101-"]
    for wrong in ("20250230-20250301", "20250102-20250101", "a-b"):
        with pytest.raises(BatchError):
            days(wrong)
