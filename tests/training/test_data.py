"""Manifests, redactions, the pixel cache and encoded images."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.conftest import DataSet, write_lines, write_record, write_vqgan

from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.preprocess import Preprocessing, to_pixels
from llmcxr_models.radiograph_file import read_radiograph
from llmcxr_training.data import DataError, clean, describe, read_manifest
from llmcxr_training.datasets import JsonlData
from llmcxr_training.encode_images import Augmentation, EncodedImages, augment, encode_images
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.trained_vqgan import TrainedVqGan

SMALL = Preprocessing(image_size=32, channels=1)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Of three patients; free to be changed."""
    write_lines(tmp_path / "m.jsonl", [write_record(tmp_path, n) for n in range(3)])
    return tmp_path / "m.jsonl"


def change(manifest: Path, line: int, **changed: Any) -> None:
    records = [json.loads(text) for text in manifest.read_text().splitlines()]
    records[line] |= changed
    write_lines(manifest, records)


def test_records_are_read(manifest: Path) -> None:
    studies = read_manifest(manifest)
    assert [s.id for s in studies] == ["study-0", "study-1", "study-2"]
    assert studies[1].labels == ("cardiomegaly/mild",)
    assert studies[1].indication == "Chest pain."
    assert studies[1].report.text == "Findings: The heart is enlarged. Impression: Cardiomegaly."
    assert describe(studies) == "train frontal 3"


def test_collections_and_splits_are_chosen(manifest: Path) -> None:
    change(manifest, 1, split="test")
    change(manifest, 2, collection="hannover", view="lateral")
    assert [s.id for s in read_manifest(manifest, splits=("train",))] == ["study-0", "study-2"]
    assert [s.id for s in read_manifest(manifest, collections=("indiana",))] == [
        "study-0",
        "study-1",
    ]
    assert not read_manifest(manifest, collections=("hannover",))[0].is_frontal
    with pytest.raises(DataError):
        read_manifest(manifest, collections=("mimic",))


def test_a_missing_picture_is_skipped_and_counted(
    manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (manifest.parent / "1.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert [s.id for s in read_manifest(manifest)] == ["study-0", "study-2"]
    assert "1 records skipped" in caplog.text


def test_visits_are_told_apart(manifest: Path) -> None:
    change(manifest, 1, study_id="s2", taken="2020-01-02")
    data = JsonlData(manifest=manifest)
    assert [(s.study_id, s.taken) for s in data.studies()] == [
        ("patient-0", ""),
        ("s2", "2020-01-02"),
        ("patient-2", ""),
    ]
    assert data.collection_names == (manifest.parent.name,)
    assert JsonlData(manifest=manifest, collections=("a",)).collection_names == ("a",)


def test_a_malformed_line_is_named(manifest: Path) -> None:
    for malformed in ("{", "[1]", "3", '{"id": "x"}', '{"id": null}'):
        text = manifest.read_text()
        manifest.write_text(text + malformed + "\n")
        with pytest.raises(DataError, match="line 4"):
            read_manifest(manifest)
        manifest.write_text(text)
    change(manifest, 1, findings=None)
    with pytest.raises(DataError, match="line 2"):
        read_manifest(manifest)
    with pytest.raises(DataError):
        read_manifest(manifest.parent / "none.jsonl")


def test_a_patient_in_two_splits_is_refused_even_if_one_is_not_wanted(manifest: Path) -> None:
    change(manifest, 1, patient_id="patient-0", split="test", collection="other")
    with pytest.raises(DataError, match="two splits"):
        read_manifest(manifest, collections=("indiana",), splits=("train",))


def test_an_id_that_occurs_twice_is_refused(manifest: Path) -> None:
    change(manifest, 2, id="study-0")
    with pytest.raises(DataError, match="line 3"):
        read_manifest(manifest)


def test_blank_lines_and_unicode_separators_are_no_lines(manifest: Path) -> None:
    record = write_record(manifest.parent, 3, findings="One\u2028two\u0085three.")
    with manifest.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(record, ensure_ascii=False) + "\n\n")
    assert read_manifest(manifest)[3].report.findings == "One two three."


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Heart normal. XXXX compared. Clear.", "Heart normal. Clear."),
        ("XXXX", ""),
        ("The XXXX-year-old is well.\nLungs   clear.", "Lungs clear."),
        ("Stable since XX/XX. No change!", "No change!"),
        ("EXXON is no redaction, nor is X.", "EXXON is no redaction, nor is X."),
        ("", ""),
    ],
)
def test_sentences_with_a_redaction_go(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_cached_pixels_are_the_service_s(manifest: Path, tmp_path: Path) -> None:
    studies = read_manifest(manifest)
    cache = PixelCache.open(studies, SMALL, tmp_path / "cache")
    batch = cache.batch([2, 0], channels=3)
    assert batch.shape == (2, 3, 32, 32)
    for row, study in zip(batch, (studies[2], studies[0]), strict=True):
        expected = to_pixels(read_radiograph(study.path.read_bytes(), SMALL.pipeline), SMALL)
        assert float((row - expected).abs().max()) <= 1 / 255 + 1e-6


def test_a_damaged_picture_is_skipped_and_listed(
    manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    (tmp_path / "2.png").write_bytes(b"no picture at all")
    with caplog.at_level(logging.WARNING):
        cache = PixelCache.open(read_manifest(manifest), SMALL, tmp_path / "cache")
    assert [s.id for s in cache.studies] == ["study-0"]
    assert len(cache) == len(cache.grey) == 1
    assert "skipped study-1" in caplog.text
    assert "skipped study-2" in caplog.text
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(DataError):
        PixelCache.open(read_manifest(manifest), SMALL, tmp_path / "cache")


def test_the_cache_is_kept_and_an_unfinished_one_made_again(manifest: Path, tmp_path: Path) -> None:
    studies = read_manifest(manifest)
    folder = tmp_path / "cache"
    first = np.array(PixelCache.open(studies, SMALL, folder).grey)
    (array,) = folder.glob("*.npy")
    made = array.stat().st_mtime_ns
    again = PixelCache.open(studies, SMALL, folder)
    assert array.stat().st_mtime_ns == made
    assert np.array_equal(first, again.grey)
    (index,) = folder.glob("*.json")
    index.unlink()  # as if it was killed before the index was written
    array.write_bytes(b"half an array")
    assert np.array_equal(PixelCache.open(studies, SMALL, folder).grey, first)
    PixelCache.open(studies[:2], SMALL, folder)
    assert len(list(folder.glob("*.npy"))) == 2
    assert not list(folder.glob("*tmp*"))


def test_versions_are_shifted_a_little_and_never_mirrored() -> None:
    ramp = torch.linspace(-0.5, 0.5, 32).expand(4, 1, 32, 32)
    changed = augment(ramp, Augmentation(), torch.Generator().manual_seed(0))
    assert changed.shape == ramp.shape
    assert float(changed.abs().max()) <= 1.0
    assert not torch.equal(changed[0], changed[1])
    assert bool((changed[..., -1] > changed[..., 0]).all())
    still = Augmentation(shift_pixels=0, contrast=0.0)
    torch.testing.assert_close(augment(ramp, still, torch.Generator()), ramp)


def test_images_are_encoded_in_versions_and_come_back(data_set: DataSet, tmp_path: Path) -> None:
    studies = read_manifest(data_set.manifest)[:5]
    cache = PixelCache.open(studies, SMALL, tmp_path / "cache")
    tokenizer = ImageTokenizer(TrainedVqGan.load(write_vqgan(tmp_path / "vqgan")).vqgan)
    images = encode_images(cache, tokenizer, Augmentation(versions=2), batch_size=2)
    assert images.ids == tuple(s.id for s in studies)
    assert images.codes.shape == (5, 2, 16)
    assert torch.equal(
        torch.from_numpy(images.codes[:, 0].astype(np.int64)),
        tokenizer.encode(cache.batch(range(5), 1)),
    )
    assert not np.array_equal(images.codes[:, 0], images.codes[:, 1])
    images.save(tmp_path / "codes.npz")
    loaded = EncodedImages.load(tmp_path / "codes.npz")
    assert loaded.ids == images.ids
    assert np.array_equal(loaded.codes, images.codes)
    (tmp_path / "codes.npz").write_bytes(b"damaged")
    with pytest.raises(DataError):
        EncodedImages.load(tmp_path / "codes.npz")
