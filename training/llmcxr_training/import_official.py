"""The official LLM-CXR release -> our checkpoint directory.

The release (github.com/hyn2028/llm-cxr) is a taming-transformers VQ-GAN and a GPT-NeoX
directory (databricks/dolly) whose image ids lie behind its tokenizer: id = code + 50281.
Nothing is fetched, no code of the release is run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmcxr_models.checkpoint import (
    LLM_FOLDER,
    VQGAN_WEIGHTS,
    Checkpoint,
    Manifest,
    hash_files,
    sha256,
    write_manifest,
)
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_training.conversion import ConversionError, new_directory
from llmcxr_training.extend_vocabulary import VocabularyError, embedding_weight
from llmcxr_training.official_tokenizer import (
    TOKENIZER_FILE,
    add_image_tokens,
    check_special_tokens,
    copy_descriptions,
    read_tokenizer,
)
from llmcxr_training.run_state import write_json
from llmcxr_training.taming import read_project, read_weights

TEMPLATE = "dolly"
IMAGE_OFFSET = 50281
VIEWS = ("frontal", "lateral")
_NOT_SERVED = ("_name_or_path", "transformers_version", "custom_pipelines", "auto_map")


@dataclass(frozen=True)
class OfficialRelease:
    """The files of a release.

    Attributes:
        vqgan: the VQ-GAN's `.ckpt`.
        project: its project YAML.
        llm: the language model's Hugging Face directory.
        image_offset: token id of code 0.
        pipeline: how the pictures of its training were made from stored values.
        geometry: how they were made square.
        views: what it was trained on.
    """

    vqgan: Path
    project: Path
    llm: Path
    image_offset: int = IMAGE_OFFSET
    pipeline: Pipeline = Pipeline.MIMIC
    geometry: Geometry = Geometry.CENTRE_CROP
    views: tuple[str, ...] = ("frontal",)

    def __post_init__(self) -> None:
        if not self.views or set(self.views) - set(VIEWS):
            raise ConversionError(f"views are {' and '.join(VIEWS)}")

    @classmethod
    def of(
        cls,
        vqgan: Path,
        project: Path,
        llm: Path,
        image_offset: int,
        pipeline: str,
        geometry: str,
        views: tuple[str, ...],
    ) -> OfficialRelease:
        """A release with pipeline and geometry by their names.

        Raises:
            ConversionError: there is no such pipeline, geometry or view.
        """
        try:
            made = Pipeline(pipeline), Geometry(geometry)
        except ValueError as error:
            raise ConversionError(
                f"pipeline is one of {', '.join(Pipeline)}, geometry of {', '.join(Geometry)}"
            ) from error
        return cls(vqgan, project, llm, image_offset, *made, views)


def import_official(
    release: OfficialRelease, output: Path, *, name: str, version: str
) -> Checkpoint:
    """Make the checkpoint directory `output` of an official release.

    Raises:
        ConversionError: a file of the release is missing, damaged or of another kind, its parts
            do not fit together, or `output` cannot be written.
    """
    config = read_project(release.project)
    tokenizer = read_tokenizer(release.llm)
    stop = check_special_tokens(tokenizer)
    add_image_tokens(tokenizer, release.image_offset, config.codebook_size)
    weights = read_weights(release.vqgan, config)
    model = _load_model(release.llm)
    _check_rows(model, release.image_offset, config.codebook_size)
    vocabulary = Vocabulary(
        size=release.image_offset + config.codebook_size,
        image_offset=release.image_offset,
        codebook_size=config.codebook_size,
        image_length=config.grid_size**2,
        stop_token_ids=(stop,),
    )
    with new_directory(output) as building:
        save_file(weights, building / VQGAN_WEIGHTS)
        _write_llm(model, tokenizer, release.llm, building / LLM_FOLDER, vocabulary)
        manifest = Manifest(
            name=name,
            version=version,
            template=TEMPLATE,
            vocabulary=vocabulary,
            vqgan=config,
            preprocessing=Preprocessing(
                release.pipeline, release.geometry, config.image_size, config.image_channels
            ),
            views=release.views,
            max_model_len=_max_model_len(model),
            files=hash_files(building),
            provenance=_provenance(release),
        )
        Checkpoint(building, manifest).load_prompts()
        write_manifest(building, manifest)
    return Checkpoint(output, manifest)


def _load_model(folder: Path) -> PreTrainedModel:
    """The language model in the precision of its files; every tensor must be in them."""
    if not (folder / "config.json").is_file():
        raise ConversionError(f"there is no config.json in {folder}")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype="auto",
            local_files_only=True,
            weights_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # whatever configuration and weight files can be wrong about
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConversionError(f"{folder} cannot be loaded: {reason}") from error
    model, loading = cast(tuple[PreTrainedModel, dict[str, set[str]]], loaded)
    for key, what in (("missing_keys", "lacks"), ("unexpected_keys", "has an unknown")):
        if names := sorted(loading[key]):
            raise ConversionError(f"the model in {folder} {what} tensor {names[0]}")
    return model


def _check_rows(model: PreTrainedModel, image_offset: int, codebook_size: int) -> None:
    """Check that input and output embeddings end with the last image id."""
    expected = image_offset + codebook_size
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        try:
            rows = len(embedding_weight(layer))
        except VocabularyError as error:
            raise ConversionError(str(error)) from error
        if rows < expected:
            raise ConversionError(
                f"the model has {rows} embedding rows: no room for {codebook_size} image ids "
                f"from {image_offset} on"
            )
        if rows > expected:
            raise ConversionError(
                f"the model has {rows} embedding rows, {rows - expected} more than text and "
                "image ids"
            )


def _write_llm(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    source: Path,
    folder: Path,
    vocabulary: Vocabulary,
) -> None:
    try:
        model.save_pretrained(folder)
    except ValueError as error:
        raise ConversionError(f"{source} holds settings that cannot be saved: {error}") from error
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in _NOT_SERVED:
        settings.pop(key, None)
    write_json(folder / "config.json", settings)
    # Sampling defaults of the release would become defaults of the server.
    write_json(folder / "generation_config.json", {"eos_token_id": [*vocabulary.stop_token_ids]})
    copy_descriptions(source, folder, vocabulary.codebook_size)
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")


def _max_model_len(model: PreTrainedModel) -> int:
    length = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(length, int):
        raise ConversionError("config.json has no max_position_embeddings")
    return length


def _provenance(release: OfficialRelease) -> dict[str, object]:
    return {
        "imported_from": {
            "vqgan": {"file": release.vqgan.name, "sha256": sha256(release.vqgan)},
            "project": {"file": release.project.name, "sha256": sha256(release.project)},
            "llm": release.llm.resolve().name,
        },
        "converter": f"llmcxr {installed_version('llmcxr')}",
        "use": "research only; not a medical device",
    }
