"""Our checkpoint directory -> the files of the official LLM-CXR code; inverse of the import.

vqgan.ckpt     state dict for taming-transformers' VQModel
vqgan.yaml     its project file
llm/           Hugging Face directory, image ids behind the tokenizer
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from llmcxr_models.checkpoint import LLM_FOLDER, Checkpoint, Manifest
from llmcxr_models.preprocess import Geometry
from llmcxr_models.radiograph import Pipeline
from llmcxr_training.conversion import ConversionError, new_directory
from llmcxr_training.import_official import TEMPLATE, OfficialRelease
from llmcxr_training.official_tokenizer import (
    TOKENIZER_FILE,
    copy_descriptions,
    read_tokenizer,
    without_image_tokens,
)
from llmcxr_training.run_state import write_json
from llmcxr_training.taming import write_project, write_weights

_log = logging.getLogger(__name__)

VQGAN_FILE = "vqgan.ckpt"
PROJECT_FILE = "vqgan.yaml"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def export_official(source: Path, output: Path) -> OfficialRelease:
    """Write `output` from the checkpoint directory `source`.

    Raises:
        CheckpointError: `source` is no whole checkpoint.
        ConversionError: the original code cannot express it, or `output` cannot be written.
    """
    checkpoint = Checkpoint.open(source)
    manifest = checkpoint.manifest
    if manifest.template != TEMPLATE:
        raise ConversionError(
            f"the original code frames prompts as {TEMPLATE}; this checkpoint's template is "
            f"{manifest.template}"
        )
    checkpoint.load_tokenizer()
    with new_directory(output) as building:
        write_project(building / PROJECT_FILE, manifest.vqgan)
        write_weights(building / VQGAN_FILE, dict(checkpoint.load_vqgan().state_dict()))
        _write_llm(checkpoint.llm_path, building / LLM_FOLDER, manifest)
    _warn(manifest)
    return OfficialRelease(
        vqgan=output / VQGAN_FILE,
        project=output / PROJECT_FILE,
        llm=output / LLM_FOLDER,
        image_offset=manifest.vocabulary.image_offset,
        pipeline=manifest.preprocessing.pipeline,
        geometry=manifest.preprocessing.geometry,
        views=manifest.views,
    )


def _write_llm(source: Path, folder: Path, manifest: Manifest) -> None:
    folder.mkdir()
    for pattern in _WEIGHTS:
        for file in sorted(source.glob(pattern)):
            shutil.copyfile(file, folder / file.name)
    try:
        settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"{source / 'config.json'} cannot be read") from error
    write_json(folder / "config.json", settings | _older_names(settings))
    codebook_size = manifest.vocabulary.codebook_size
    copy_descriptions(source, folder, codebook_size)
    definition = (source / TOKENIZER_FILE).read_text(encoding="utf-8")
    text_only = without_image_tokens(definition, codebook_size)
    (folder / TOKENIZER_FILE).write_text(text_only, encoding="utf-8")
    size = read_tokenizer(folder).get_vocab_size(with_added_tokens=True)
    if size != manifest.vocabulary.image_offset:
        raise ConversionError(
            f"without image tokens the tokenizer has {size} entries, but the image ids start at "
            f"{manifest.vocabulary.image_offset}"
        )


def _older_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of GPT-NeoX as transformers before version 5 reads them, which the code needs."""
    older: dict[str, Any] = {}
    rotary = settings.get("rope_parameters") or {}
    for new, old in (("partial_rotary_factor", "rotary_pct"), ("rope_theta", "rotary_emb_base")):
        if new in rotary:
            older[old] = rotary[new]
    if "dtype" in settings:
        older["torch_dtype"] = settings["dtype"]
    return older


def _warn(manifest: Manifest) -> None:
    """Say what the original code would do otherwise than this checkpoint was trained."""
    preprocessing = manifest.preprocessing
    if (preprocessing.pipeline, preprocessing.geometry) != (Pipeline.MIMIC, Geometry.CENTRE_CROP):
        _log.warning(
            "trained on pictures made by %s; the original code makes them by %s/%s",
            preprocessing.name,
            Pipeline.MIMIC,
            Geometry.CENTRE_CROP,
        )
    offset = manifest.vocabulary.image_offset
    if offset != OfficialRelease.image_offset:
        _log.warning("image ids start at %d; the original code counts the tokenizer", offset)
