"""A release: the small directory that is published; and its assembly into a checkpoint.

    manifest.json        the manifest of the assembled checkpoint, digests included
    delta.safetensors    adapters and image-token rows
    vqgan.safetensors    the image tokenizer
    gate.safetensors     the gate on pixels, where there is one
    judge.safetensors    the judge that picks among drawn images, where there is one
    llm/                 config and tokenizer files, as they are served, and guidance/ with the
                         tables for drawing, where there are some
    README.md            the model card

`publish` writes it from training runs; `assemble` merges it with the base model into what the
service opens, and accepts the result only if every digest is the published one. A run that
trained every weight has no small difference: `publish` writes the checkpoint itself.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from llmcxr_models.checkpoint import (
    LLM_FOLDER,
    MANIFEST,
    VQGAN_WEIGHTS,
    Checkpoint,
    Manifest,
    hash_files,
    read_manifest,
    verify_files,
    write_manifest,
)
from llmcxr_models.errors import CheckpointError, InvalidCheckpoint
from llmcxr_models.finding_tilt import TABLES
from llmcxr_models.gate import GATE_WEIGHTS
from llmcxr_models.judge import JUDGE_WEIGHTS
from llmcxr_training.base_model import load_base
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.merge import DELTA, Delta, merge, whole_weights
from llmcxr_training.picking_judge import TrainedJudge, picking_judge
from llmcxr_training.questions import TAUGHT
from llmcxr_training.run_state import git_state, load_state, save_weights, write_json
from llmcxr_training.stage import TOKENIZER_FOLDER, GrownModel, check_vqgan, grow
from llmcxr_training.stated_findings import read_thresholds
from llmcxr_training.trained_gate import TrainedGate
from llmcxr_training.trained_guidance import TrainedGuidance
from llmcxr_training.trained_vqgan import TrainedVqGan

_log = logging.getLogger(__name__)

LLM_WEIGHTS = "model.safetensors"
_LOOKERS = (GATE_WEIGHTS, JUDGE_WEIGHTS)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def publish(
    config: Finetuning,
    release: Path,
    *,
    name: str,
    version: str,
    max_model_len: int,
    gate: Path | None = None,
    judge: Path | None = None,
    measured_by: Path | None = None,
    guidance: Path | None = None,
    stating: Path | None = None,
) -> Manifest:
    """Write the release directory of a fine-tuning run, or its checkpoint without adapters.

    A release's checkpoint is assembled once to learn its digests, and dropped again.

    Args:
        config: of the run.
        release: directory to write.
        name: of the model.
        version: of the model.
        max_model_len: longest sequence, tokens.
        gate: folder of the gate on pixels; None for none.
        judge: folder of the judge that picks among drawn images; None for none.
        measured_by: folder of the judge that measures the checkpoint; needed with `judge`.
        guidance: folder of the tables for drawing; None for none.
        stating: file of the thresholds from which on report prompts state findings; None for a
            checkpoint that was not taught to write by such statements.

    Raises:
        FileNotFoundError: the run has no state.
        InvalidCheckpoint: a checkpoint is to be written into a folder with something else in it,
            gate, judge or guidance are missing, gate or judge were trained with another
            preprocessing or the guidance on other codes, the thresholds are of findings that
            the run was not asked about, or the judge may be the one that measures.
    """
    state = load_state(config.output)
    if state is None:
        raise FileNotFoundError(f"no run state in {config.output}")
    trained = TrainedVqGan.load(config.vqgan)
    check_vqgan(config, trained)
    trained_gate = TrainedGate.load(gate) if gate else None
    if trained_gate:
        trained_gate.check_preprocessing(trained.preprocessing)
    judges = picking_judge(judge, measured_by, trained.preprocessing) if judge else None
    tables = TrainedGuidance.load(guidance) if guidance else None
    if tables:
        tables.check_codes(trained)
    stated_from = read_thresholds(stating) if stating else {}
    grown = grow(config.base, trained.vqgan, config.template, config.output.parent / "base")
    model = ImageTextModel(grown.model, grown.vocabulary, config.lora)
    model.load_trained_state(state["model"])
    manifest = Manifest(
        name=name,
        version=version,
        template=config.template,
        vocabulary=grown.vocabulary,
        vqgan=trained.vqgan.config,
        preprocessing=trained.preprocessing,
        views=config.refinement.views,
        max_model_len=max_model_len,
        files={},
        provenance=_provenance(config, state, judges, tables),
        findings=TAUGHT if config.mixing.image_to_text * config.mixing.question_share else (),
        gate=trained_gate.gate.config if trained_gate else None,
        judge=judges[0].judge.config if judges else None,
        guidance=tables.config if tables else None,
        stated_from=stated_from,
    )
    release.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=release.parent) as scratch:
        built = Path(scratch) / "checkpoint"
        if config.lora is None:
            _write_parts(config, trained, grown, built, max_model_len)
            _write_lookers(trained_gate, judge, built)
            _write_guidance(tables, grown, built)
            weights = whole_weights(grown.model, model)
            save_weights(built / LLM_FOLDER / LLM_WEIGHTS, weights, {"format": "pt"})
            manifest = replace(manifest, files=hash_files(built))
            write_manifest(built, manifest)
            _replace(built, release)
        else:
            _write_parts(config, trained, grown, release, max_model_len)
            _write_lookers(trained_gate, judge, release)
            _write_guidance(tables, grown, release)
            Delta.of(model).save(release / DELTA)
            _build(release, config.base, grown.vocabulary.image_offset, built)
            manifest = replace(manifest, files=hash_files(built))
            write_manifest(release, manifest)
    return manifest


def _write_parts(
    config: Finetuning, trained: TrainedVqGan, grown: GrownModel, folder: Path, max_model_len: int
) -> None:
    """Image tokenizer, config and text tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / VQGAN_WEIGHTS, trained.vqgan.state_dict())
    _write_llm_files(config, grown, folder / LLM_FOLDER, max_model_len)


def _write_lookers(gate: TrainedGate | None, judge: Path | None, folder: Path) -> None:
    """Gate and judge; those of an earlier release go."""
    for name in _LOOKERS:
        (folder / name).unlink(missing_ok=True)
    if gate is not None:
        save_weights(folder / GATE_WEIGHTS, dict(gate.gate.state_dict()))
    if judge is not None:
        # Byte for byte, so that the manifest's digest is the one of the run's own file.
        shutil.copyfile(judge / JUDGE_WEIGHTS, folder / JUDGE_WEIGHTS)


def _write_guidance(tables: TrainedGuidance | None, grown: GrownModel, folder: Path) -> None:
    """The tables for drawing; those of an earlier release go."""
    (folder / LLM_FOLDER / TABLES).unlink(missing_ok=True)
    if tables is not None:
        tables.write_into(folder / LLM_FOLDER, grown.vocabulary.image_offset)


def assemble(release: Path, base: Path, output: Path) -> Checkpoint:
    """Make the checkpoint directory `output`; does nothing where it is there and right.

    Raises:
        CheckpointError: the result is not what the release's manifest says, or `output` is a
            folder with something else in it.
        BaseModelError: the base model cannot be loaded.
        DeltaError: the release's delta is damaged, or of another base model.
    """
    manifest = read_manifest(release)
    try:
        if read_manifest(output).digest == manifest.digest:
            return Checkpoint.open(output)
    except CheckpointError:
        _log.info("assembling %s", output)
    _refuse_foreign(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        built = Path(scratch) / "checkpoint"
        _build(release, base, manifest.vocabulary.image_offset, built)
        verify_files(built, manifest.files)
        write_manifest(built, manifest)
        _replace(built, output)
    return Checkpoint(output, manifest)


def _refuse_foreign(output: Path) -> None:
    if output.exists() and not (output / MANIFEST).is_file() and any(output.iterdir()):
        raise InvalidCheckpoint(f"{output.name} is there and is no checkpoint; it is left alone.")


def _replace(built: Path, output: Path) -> None:
    """Move a finished directory to its place; an earlier checkpoint there goes."""
    _refuse_foreign(output)
    if output.exists():
        output.rename(built.parent / "replaced")
    built.rename(output)


def _build(release: Path, base: Path, image_offset: int, output: Path) -> None:
    """Everything of a checkpoint but its manifest."""
    output.mkdir(parents=True)
    shutil.copyfile(release / VQGAN_WEIGHTS, output / VQGAN_WEIGHTS)
    for name in _LOOKERS:
        if (release / name).is_file():
            shutil.copyfile(release / name, output / name)
    shutil.copytree(release / LLM_FOLDER, output / LLM_FOLDER, copy_function=shutil.copyfile)
    with TemporaryDirectory(dir=output.parent) as scratch:
        model, _ = load_base(base, Path(scratch))
        weights = merge(model, Delta.load(release / DELTA), image_offset)
    save_weights(output / LLM_FOLDER / LLM_WEIGHTS, weights, {"format": "pt"})


def _write_llm_files(
    config: Finetuning, grown: GrownModel, folder: Path, max_model_len: int
) -> None:
    """Config and tokenizer files, written once here so that no library version matters later."""
    folder.mkdir(exist_ok=True)
    for file in _TOKENIZER_FILES:
        source = config.output / TOKENIZER_FOLDER / file
        if source.is_file():
            shutil.copyfile(source, folder / file)
    settings = grown.model.config.to_dict()
    for key in ("_name_or_path", "_model_name_or_path", "transformers_version"):
        settings.pop(key, None)
    stop = list(grown.vocabulary.stop_token_ids)
    settings |= {
        "vocab_size": grown.vocabulary.size,
        "tie_word_embeddings": False,
        "dtype": str(torch.bfloat16).removeprefix("torch."),
        "eos_token_id": stop[0],
        "max_position_embeddings": max(max_model_len, settings["max_position_embeddings"]),
    }
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", {"eos_token_id": stop})


def _provenance(
    config: Finetuning,
    state: Mapping[str, Any],
    judges: tuple[TrainedJudge, TrainedJudge] | None,
    tables: TrainedGuidance | None,
) -> dict[str, Any]:
    described = json.loads((config.vqgan / "vqgan.json").read_text())
    return {
        "base_model": config.base.name,
        "collections": list(config.data.collection_names),
        "vqgan": {k: described.get(k) for k in ("steps", "images_seen", "wall_seconds", "seed")},
        "finetuning": {
            "steps": state["step"],
            "sequences": state["step"] * config.batch_size,
            "wall_seconds": round(state["seconds"]),
            "seed": config.seed,
            "mixing": config.mixing.model_dump(mode="json"),
            "refinement": config.refinement.model_dump(mode="json"),
            "lora": config.lora.model_dump(mode="json") if config.lora else None,
        },
        **({"judge": judges[0].provenance, "measured_by": judges[1].digest} if judges else {}),
        **({"guidance": tables.provenance} if tables else {}),
        "git": git_state(),
        "use": "research only; not a medical device",
    }
