"""Puts one fine-tuning stage together: base model, image tokenizer, codes, examples."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.prompt import TEMPLATES, PromptBuilder
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_models.vqgan import VqGan
from llmcxr_training.base_model import load_base
from llmcxr_training.compute import Shape, spend
from llmcxr_training.data import DataError, Study, describe
from llmcxr_training.drawing_steps import DrawingTeacher
from llmcxr_training.encode_images import EncodedImages, encode_images
from llmcxr_training.extend_vocabulary import extend_vocabulary
from llmcxr_training.finding_steps import FindingTeacher
from llmcxr_training.finetune import FinetuningRun, Probe
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.instructions import (
    Examples,
    ExampleSampler,
    MixedSampler,
    PlainInstruction,
    read_instructions,
)
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.merge import DELTA
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.precision import autocast, resolve_device, resolve_precision
from llmcxr_training.probes import LanguageProbe, QuestionProbe
from llmcxr_training.processes import Processes
from llmcxr_training.refinement import refine
from llmcxr_training.run_state import seed_everything, write_json
from llmcxr_training.teacher import Teacher
from llmcxr_training.trained_vqgan import TrainedVqGan

_log = logging.getLogger(__name__)

TOKENIZER_FOLDER = "tokenizer"
COMPUTE_JSON = "compute.json"
"""What a run with a budget computes in all."""

_CODES_DIGEST = "codes.sha256"


@dataclass(frozen=True)
class GrownModel:
    """A base language model with image tokens.

    Attributes:
        model: embeddings extended.
        tokenizer: image tokens added.
        vocabulary: where they are.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary


def grow(base: Path, vqgan: VqGan, template: str, scratch: Path) -> GrownModel:
    """Load the base model and extend it; the same inputs give the same model."""
    model, tokenizer = load_base(base, scratch)
    vocabulary = extend_vocabulary(
        model,
        tokenizer,
        vqgan.quantize.embedding.weight.detach(),
        vqgan.config.grid_size**2,
        ending=TEMPLATES[template].ending,
    )
    return GrownModel(model, tokenizer, vocabulary)


def finetune(config: Finetuning) -> FinetuningRun:
    """Prepare a stage, resume what its folder holds, and train it."""
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    processes = Processes(config.device)
    if not processes.is_main:
        logging.getLogger(__package__).setLevel(logging.WARNING)
    with processes.main_first():
        config.output.mkdir(parents=True, exist_ok=True)
        trained = TrainedVqGan.load(config.vqgan)
        check_vqgan(config, trained)
        grown = grow(config.base, trained.vqgan, config.template, config.output.parent / "base")
        if processes.is_main:
            grown.tokenizer.save_pretrained(config.output / TOKENIZER_FOLDER)
        everything = config.data.studies()
        studies = refine(everything, config.refinement)
        refined = refine(everything, config.refined) if config.refined else []
        _log.info("data: %s", describe(studies))
        images = load_codes(config, trained, _together(studies, refined), everything)
    tokenizer = TextTokenizer(config.output / TOKENIZER_FOLDER / "tokenizer.json")
    builder = PromptBuilder(config.template, grown.vocabulary, tokenizer)
    plain = read_instructions(config.instructions)
    own = read_instructions(config.self_instructions) if config.self_instructions else []
    of_split = {part: [s for s in studies if s.split == part] for part in ("train", "val")}
    val = _sampler(config, of_split["val"], images, plain[-25:], builder)
    train: Examples = _sampler(config, of_split["train"], images, plain[:-25], builder, own)
    if config.refined and config.refined_share:
        some = [study for study in refined if study.split == "train"]
        second = _sampler(config, some, images, plain[:-25], builder, own)
        train = MixedSampler(train, second, config.refined_share)
    if config.epochs is not None:
        steps = math.ceil(config.epochs * len(train) / config.batch_size)
        config = config.model_copy(update={"steps": steps})
    dtype = resolve_precision(config.precision, processes.device)
    model = ImageTextModel(grown.model, grown.vocabulary, config.lora, dtype)
    if config.budget is not None:
        config = _within_budget(config, train, model, is_main=processes.is_main)
    _log.info("training: %d, validation: %d, steps: %d", len(train), len(val), config.steps)
    model.to(processes.device)
    probes = _probes(config, model, of_split["val"], images, builder)
    teachers = _teachers(config, model, of_split["train"], images, trained, builder)
    probes += [_teacher_probe(teacher, of_split["val"]) for teacher in teachers]
    run = FinetuningRun(config, model, train, val, processes, probes, teachers)
    run.resume()
    run.train()
    return run


def _within_budget(
    config: Finetuning, train: Examples, model: ImageTextModel, *, is_main: bool
) -> Finetuning:
    """With the number of steps that the budget allows."""
    assert config.budget is not None
    shape = Shape.of(model)
    spent = spend(config.budget, train, shape, seed=config.seed, batch_size=config.batch_size)
    if is_main:
        write_json(config.output / COMPUTE_JSON, asdict(spent) | {"shape": asdict(shape)})
    return config.model_copy(update={"steps": spent.steps})


def _together(studies: Sequence[Study], refined: Sequence[Study]) -> list[Study]:
    known = {study.id for study in studies}
    return [*studies, *(study for study in refined if study.id not in known)]


def _probes(
    config: Finetuning,
    model: ImageTextModel,
    studies: Sequence[Study],
    images: EncodedImages,
    builder: PromptBuilder,
) -> list[Probe]:
    """Made while `model` is still the base model."""
    probes: list[Probe] = []
    if config.question_images and builder.template.image_first:
        asked = QuestionProbe(studies, images, builder, config.question_images)
        probes.append(
            lambda model: {f"val_question_auroc/{k}": v for k, v in asked.measure(model).items()}
        )
    if config.language_text is not None:
        tokenizer = TextTokenizer(config.output / TOKENIZER_FOLDER / "tokenizer.json")
        device = model.image_rows.device
        with autocast(device, resolve_precision(config.precision, device)):
            text = LanguageProbe(config.language_text, tokenizer, model)
        probes.append(lambda model: {"val_language_ppl_ratio": text.ratio(model)})
    return probes


def _teachers(
    config: Finetuning,
    model: ImageTextModel,
    studies: Sequence[Study],
    images: EncodedImages,
    trained: TrainedVqGan,
    builder: PromptBuilder,
) -> list[Teacher]:
    """Those that the configuration names, of training patients."""
    seed, dtype = config.seed, resolve_precision(config.precision, model.image_rows.device)
    teachers: list[Teacher] = []
    if (finding := config.finding_steps) is not None:
        teachers.append(
            FindingTeacher(finding, model, studies, images, builder, seed=seed, dtype=dtype)
        )
    if (drawing := config.drawing_steps) is not None:
        vectors = trained.vqgan.quantize.embedding.weight.detach().float().cpu().numpy()
        teachers.append(
            DrawingTeacher(
                drawing,
                model,
                studies,
                images,
                vectors,
                builder,
                seed=seed,
                dtype=dtype,
                compile=config.compile,
            )
        )
    return teachers


def _teacher_probe(teacher: Teacher, studies: Sequence[Study]) -> Probe:
    return lambda _: {f"val_{k}": v for k, v in teacher.measure(studies).items()}


def encode(config: Finetuning) -> Path:
    """Make the codes that a stage will need, with one process; the folder that they are in."""
    config.output.mkdir(parents=True, exist_ok=True)
    trained = TrainedVqGan.load(config.vqgan)
    check_vqgan(config, trained)
    everything = config.data.studies()
    studies = refine(everything, config.refinement)
    _log.info("data: %s", describe(studies))
    load_codes(config, trained, studies, everything)
    return config.vqgan


def check_vqgan(config: Finetuning, trained: TrainedVqGan) -> None:
    """See that a run goes on with the codes that it began with; the decoder may be another.

    Raises:
        DataError: encoder or codebook were trained on, or the VQ-GAN was exchanged.
    """
    digest = trained.code_digest
    for folder in filter(None, (config.initial, config.output)):
        if _codes_of(folder) not in (None, digest):
            raise DataError(f"{folder} was trained on codes of another VQ-GAN than {config.vqgan}")
    if not (config.output / _CODES_DIGEST).is_file():
        (config.output / _CODES_DIGEST).write_text(f"{digest}\n")


def _codes_of(folder: Path) -> str | None:
    """What decided the codes that a run or a release was trained on, where it says so."""
    if (folder / DELTA).is_file():
        return TrainedVqGan.of_release(folder).code_digest
    record = folder / _CODES_DIGEST
    return record.read_text().strip() if record.is_file() else None


def load_codes(
    config: Finetuning,
    trained: TrainedVqGan,
    studies: Sequence[Study],
    everything: Sequence[Study],
) -> EncodedImages:
    """Codes of the studies; made once for these weights and studies, kept with the VQ-GAN.

    A refined stage finds its codes among those that a stage of the whole data set has made, or
    one of the same views.
    """
    # Of the studies themselves: a second refinement may want other views than the first.
    views = {study.is_frontal for study in studies}
    of_views = [study for study in everything if study.is_frontal in views]
    for wanted in (everything, of_views, studies):
        path = config.vqgan / f"codes-{_codes_key(config, trained, wanted)}.npz"
        if path.is_file():
            return EncodedImages.load(path)
    cache = PixelCache.open(studies, trained.preprocessing, config.vqgan.parent / "pixels")
    tokenizer = ImageTokenizer(trained.vqgan, resolve_device(config.device))
    images = encode_images(cache, tokenizer, config.augmentation, seed=config.seed)
    images.save(path)
    return images


def _codes_key(config: Finetuning, trained: TrainedVqGan, studies: Sequence[Study]) -> str:
    """The seed is left out: augmented versions of another seed are as good."""
    wanted = [config.augmentation.model_dump(mode="json"), [study.id for study in studies]]
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode())
    digest.update(trained.code_digest.encode())
    return digest.hexdigest()[:16]


def _sampler(
    config: Finetuning,
    studies: Sequence[Study],
    images: EncodedImages,
    plain: Sequence[PlainInstruction],
    builder: PromptBuilder,
    own: Sequence[PlainInstruction] = (),
) -> ExampleSampler:
    return ExampleSampler(studies, images, plain, builder, config.mixing, config.max_tokens, own)
