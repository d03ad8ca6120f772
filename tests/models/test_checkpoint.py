"""The checkpoint directory: there and back, and everything that is wrong with one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.guidances import GUIDED, with_guidance
from tests.judges import SMALL, drawn_judge, with_judge

from llmcxr_models.checkpoint import (
    MANIFEST,
    TOKENIZER,
    VQGAN_WEIGHTS,
    Checkpoint,
    Manifest,
    hash_files,
    read_manifest,
    write_manifest,
)
from llmcxr_models.errors import DigestMismatch, InvalidCheckpoint
from llmcxr_models.judge import JUDGE_WEIGHTS
from llmcxr_models.vqgan import VqGan


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((path / MANIFEST).read_text())
    change(values)
    (path / MANIFEST).write_text(json.dumps(values))


def test_round_trip(checkpoint_path: Path, vqgan: VqGan, manifest: Manifest) -> None:
    checkpoint = Checkpoint.open(checkpoint_path)
    files = checkpoint.manifest.files
    assert checkpoint.manifest == dataclasses.replace(manifest, files=files)
    assert set(files) == {VQGAN_WEIGHTS, TOKENIZER}
    loaded = checkpoint.load_vqgan()
    for name, value in vqgan.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert checkpoint.load_tokenizer().size == manifest.vocabulary.size
    assert checkpoint.load_prompts().report([0] * 16).token_ids
    assert checkpoint.llm_path == checkpoint_path / "llm"


def test_manifest_round_trip_through_json(manifest: Manifest) -> None:
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest


def test_digest_names_every_setting(manifest: Manifest) -> None:
    again = Manifest.from_dict(json.loads(json.dumps(manifest.to_dict())))
    assert again.digest == manifest.digest
    assert manifest.served_name == f"tiny-{manifest.digest[:12]}"
    for change in ({"version": "2"}, {"template": "dolly"}, {"files": {"a": "b"}}):
        assert dataclasses.replace(manifest, **change).digest != manifest.digest


def test_write_is_atomic_and_leaves_nothing_beside(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    write_manifest(tmp_path, manifest)
    assert [file.name for file in tmp_path.iterdir()] == [MANIFEST]
    assert read_manifest(tmp_path) == manifest
    assert hash_files(tmp_path) == {}


@pytest.mark.parametrize("name", [VQGAN_WEIGHTS, TOKENIZER])
def test_a_changed_file(checkpoint_path: Path, name: str) -> None:
    with (checkpoint_path / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(DigestMismatch):
        Checkpoint.open(checkpoint_path)
    assert Checkpoint.open(checkpoint_path, verify=False).manifest.name == "tiny"


@pytest.mark.parametrize("name", [VQGAN_WEIGHTS, TOKENIZER])
def test_a_missing_file(checkpoint_path: Path, name: str) -> None:
    (checkpoint_path / name).unlink()
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(tmp_path)
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\0", b'"text"'])
def test_a_manifest_that_is_no_object(checkpoint_path: Path, content: bytes) -> None:
    (checkpoint_path / MANIFEST).write_bytes(content)
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path)


TAMPERED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no version": lambda m: m.pop("format_version"),
    "wrong version": lambda m: m.update(format_version=2),
    "unknown field": lambda m: m.update(colour="blue"),
    "missing field": lambda m: m.pop("views"),
    "unknown template": lambda m: m.update(template="chatml"),
    "unknown vocabulary field": lambda m: m["vocabulary"].update(colour=1),
    "missing vocabulary field": lambda m: m["vocabulary"].pop("size"),
    "image tokens outside": lambda m: m["vocabulary"].update(image_offset=10_000),
    "another image length": lambda m: m["vocabulary"].update(image_length=256),
    "another codebook": lambda m: m["vocabulary"].update(codebook_size=16),
    "stop token among the images": lambda m: m["vocabulary"].update(
        stop_token_ids=[m["vocabulary"]["image_offset"]]
    ),
    "vocabulary is no object": lambda m: m.update(vocabulary=7),
    "unknown VQ-GAN field": lambda m: m["vqgan"].update(colour=1),
    "impossible VQ-GAN": lambda m: m["vqgan"].update(image_size=17),
    "another picture size": lambda m: m["preprocessing"].update(image_size=32),
    "unknown geometry": lambda m: m["preprocessing"].update(geometry="stretch"),
    "unknown pipeline": lambda m: m["preprocessing"].update(pipeline="raw"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_manifest(checkpoint_path: Path, name: str) -> None:
    _edit(checkpoint_path, TAMPERED[name])
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path)


def test_weights_of_another_shape(checkpoint_path: Path) -> None:
    save_file({"quantize.embedding.weight": torch.zeros(2, 2)}, checkpoint_path / VQGAN_WEIGHTS)
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path, verify=False).load_vqgan()


def test_weights_that_are_a_pickle(checkpoint_path: Path, vqgan: VqGan) -> None:
    torch.save(vqgan.state_dict(), checkpoint_path / VQGAN_WEIGHTS)
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path, verify=False).load_vqgan()


def test_a_tokenizer_of_another_size(checkpoint_path: Path) -> None:
    def grow(values: dict[str, Any]) -> None:
        values["vocabulary"]["size"] += 64

    _edit(checkpoint_path, grow)
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path).load_tokenizer()


def test_a_checkpoint_may_carry_a_judge(checkpoint_path: Path, tmp_path: Path) -> None:
    plain = read_manifest(checkpoint_path)
    assert plain.judge is None
    assert "judge" not in plain.to_dict()  # older checkpoints keep their digest
    assert Checkpoint.open(checkpoint_path).load_judge() is None
    path = with_judge(checkpoint_path, tmp_path / "judged", drawn_judge())
    checkpoint = Checkpoint.open(path)
    assert checkpoint.manifest.judge == SMALL
    assert checkpoint.manifest.digest != plain.digest
    judge = checkpoint.load_judge()
    assert judge is not None
    assert judge.is_same_as(drawn_judge())
    save_file({"head.weight": torch.zeros(2, 2)}, path / JUDGE_WEIGHTS)
    with pytest.raises(DigestMismatch):
        Checkpoint.open(path)
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(path, verify=False).load_judge()


@pytest.mark.parametrize("judge", [[], "x", {}, {"findings": []}, {"findings": ["Edema"], "x": 1}])
def test_a_judge_that_is_described_otherwise(checkpoint_path: Path, judge: object) -> None:
    _edit(checkpoint_path, lambda values: values.update(judge=judge))
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path)


def test_a_checkpoint_may_guide_its_drawing(checkpoint_path: Path, tmp_path: Path) -> None:
    plain = read_manifest(checkpoint_path)
    assert plain.guidance is None
    assert "guidance" not in plain.to_dict()  # older checkpoints keep their digest
    path = with_guidance(checkpoint_path, tmp_path / "guided")
    checkpoint = Checkpoint.open(path)
    assert checkpoint.manifest.guidance == GUIDED
    assert checkpoint.manifest.digest != plain.digest
    (path / "llm" / "guidance" / "tables.safetensors").write_bytes(b"other")
    with pytest.raises(DigestMismatch):
        Checkpoint.open(path)
    with pytest.raises(InvalidCheckpoint, match="names no tables"):
        dataclasses.replace(checkpoint.manifest, files=plain.files)


@pytest.mark.parametrize("guidance", [[], "x", {}, {"findings": ["Edema"]}])
def test_guidance_that_is_described_otherwise(checkpoint_path: Path, guidance: object) -> None:
    _edit(checkpoint_path, lambda values: values.update(guidance=guidance))
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path)


@pytest.mark.parametrize(
    "stated_from", ["x", [1], {"gout": 0.5}, {"cardiomegaly": 0.0}, {"cardiomegaly": "much"}]
)
def test_statements_that_nobody_could_make(checkpoint_path: Path, stated_from: object) -> None:
    known = {"findings": ["normal", "cardiomegaly"], "stated_from": stated_from}
    _edit(checkpoint_path, lambda values: values.update(known))
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.open(checkpoint_path)
