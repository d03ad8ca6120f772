"""`llmcxr-train stating`: from which answer on a finding is stated in the prompt of a report.

What a model answers by yes or no tells findings better than what it writes: the likeliest report
is a normal one, whoever is shown (docs/decisions/0018). A finding is stated as often as a share of
the training reports' affirmations, of the radiographs whose answers are the surest. The surest are
found among training radiographs, so no other split is used up.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.mentions import mentions
from llmcxr_models.prompt import PromptBuilder
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_training.data import DataError
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.precision import autocast, resolve_device, resolve_precision
from llmcxr_training.probes import QuestionProbe
from llmcxr_training.questions import TAUGHT, is_indexed
from llmcxr_training.refinement import refine
from llmcxr_training.run_state import load_state, write_json
from llmcxr_training.stage import TOKENIZER_FOLDER, grow, load_codes
from llmcxr_training.trained_vqgan import TrainedVqGan

_log = logging.getLogger(__name__)

_DIGITS = 5


def stated_from(
    config: Finetuning, findings: Sequence[str], *, share: float = 0.5, radiographs: int = 600
) -> dict[str, float]:
    """Thresholds of the answers of a run's model.

    Args:
        config: of the run.
        findings: names of `TAUGHT` that a text can affirm; those whose answers tell something.
        share: stated for each affirmation in the training reports.
        radiographs: of training patients, drawn at random, that the model is asked about.

    Raises:
        FileNotFoundError: the run has no state.
        DataError: an unknown finding, one that no report affirms, or no radiographs to ask about.
    """
    state = load_state(config.output)
    if state is None:
        raise FileNotFoundError(f"no run state in {config.output}")
    trained = TrainedVqGan.load(config.vqgan)
    everything = config.data.studies()
    # Every training report counts, not only those of a refined stage.
    views = config.refinement.model_copy(update={"first_study_only": False, "mentions": ()})
    studies = refine(everything, views)
    images = load_codes(config, trained, studies, everything)
    known = set(images.ids)
    train = [s for s in studies if s.split == "train" and s.id in known and not s.report.is_empty]
    rates = {name: _rate([s.report.text for s in train], name) for name in findings}
    asked = [study for study in train if is_indexed(study)]
    random.Random(config.seed).shuffle(asked)  # noqa: S311  a sample, no secret
    if not asked:
        raise DataError("no training radiographs to ask about")
    grown = grow(config.base, trained.vqgan, config.template, config.output.parent / "base")
    device = resolve_device(config.device)
    dtype = resolve_precision(config.precision, device)
    model = ImageTextModel(grown.model, grown.vocabulary, config.lora, dtype)
    model.load_trained_state(state["model"])
    model.to(device).eval()
    tokenizer = TextTokenizer(config.output / TOKENIZER_FOLDER / "tokenizer.json")
    builder = PromptBuilder(config.template, grown.vocabulary, tokenizer)
    probe = QuestionProbe(asked[:radiographs], images, builder, radiographs)
    _log.info("asking about %d training radiographs", min(radiographs, len(asked)))
    with autocast(device, dtype):
        differences = probe.scores(model)
    probabilities = 1.0 / (1.0 + np.exp(-differences.astype(np.float64)))
    return {
        name: round(
            float(np.quantile(probabilities[:, probe.names.index(name)], 1.0 - share * rate)),
            _DIGITS,
        )
        for name, rate in rates.items()
    }


def write_thresholds(path: Path, thresholds: dict[str, float]) -> None:
    """Write what `read_thresholds` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"stated_from": thresholds})


def read_thresholds(path: Path) -> dict[str, float]:
    """Read what `llmcxr-train stating` wrote.

    Raises:
        InvalidCheckpoint: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["stated_from"]
        return {str(name): float(least) for name, least in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidCheckpoint(f"{path.name} holds no thresholds.") from error


def _rate(texts: Sequence[str], name: str) -> float:
    """Share of the texts that affirm a finding."""
    said = [mentions(text) for text in texts]
    if name not in TAUGHT or any(name not in one for one in said):
        raise DataError(f"no finding that is asked about and that a text can affirm: {name}")
    rate = sum(bool(one[name]) for one in said) / max(1, len(said))
    if not rate:
        raise DataError(f"no training report affirms {name}")
    return rate
