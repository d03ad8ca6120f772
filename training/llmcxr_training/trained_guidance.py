"""`llmcxr-train guidance`: tables of which codes speak for a finding, from a stage's own data.

    guidance.json          what a manifest says of them, and what they were fitted to
    guidance.safetensors   the tables

They go into a release with `publish --guidance`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.finding_mentions import NO_FINDING, SUPPORT_DEVICES
from llmcxr_models.finding_tilt import TABLES, FindingTilt
from llmcxr_models.guidance import GuidanceConfig
from llmcxr_training.data import DataError
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.fit_tilt import fit_tilt
from llmcxr_training.refinement import refine
from llmcxr_training.run_state import write_json
from llmcxr_training.stage import load_codes
from llmcxr_training.targets import PRESENT, target_table
from llmcxr_training.trained_vqgan import TrainedVqGan

_log = logging.getLogger(__name__)

GUIDANCE_JSON = "guidance.json"
GUIDANCE_TABLES = "guidance.safetensors"

FINDINGS = (
    NO_FINDING,
    "Cardiomegaly",
    "Lung Opacity",
    "Atelectasis",
    "Pleural Effusion",
    SUPPORT_DEVICES,
)
"""What codes of 256 pixels tell; nodules of some millimetres they do not."""


@dataclass(frozen=True)
class TrainedGuidance:
    """Tables with what a manifest says of them.

    Attributes:
        tilt: the tables.
        config: for the manifest.
        code_digest: of the VQ-GAN whose codes they are of.
        shrinkage: with which they were fitted.
        images: to which.
    """

    tilt: FindingTilt
    config: GuidanceConfig
    code_digest: str
    shrinkage: float
    images: int

    def save(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        # The offset of its token ids is a checkpoint's, and no checkpoint is known yet.
        self.tilt.save(folder / GUIDANCE_TABLES, image_offset=0)
        described = {
            "guidance": self.config.to_dict(),
            "code_digest": self.code_digest,
            "shrinkage": self.shrinkage,
            "images": self.images,
        }
        write_json(folder / GUIDANCE_JSON, described)

    @classmethod
    def load(cls, folder: Path) -> TrainedGuidance:
        """The inverse of `save`.

        Raises:
            InvalidCheckpoint: a file is missing, damaged, or does not fit the other.
        """
        try:
            described = json.loads((folder / GUIDANCE_JSON).read_text(encoding="utf-8"))
            config = GuidanceConfig.from_dict(described["guidance"])
            tilt, _ = FindingTilt.load(folder / GUIDANCE_TABLES)
            found = cls(
                tilt,
                config,
                str(described["code_digest"]),
                float(described["shrinkage"]),
                int(described["images"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidCheckpoint(f"{GUIDANCE_JSON} or its tables are damaged.") from error
        if tilt.findings != config.findings:
            raise InvalidCheckpoint("guidance.json is of other tables.")
        return found

    @property
    def provenance(self) -> dict[str, float]:
        """For a manifest."""
        return {"shrinkage": self.shrinkage, "images": self.images}

    def check_codes(self, trained: TrainedVqGan) -> None:
        """Whether it is of the codes that a checkpoint draws.

        Raises:
            InvalidCheckpoint: it is not.
        """
        if self.code_digest != trained.code_digest:
            raise InvalidCheckpoint("the guidance was fitted to codes of another VQ-GAN.")

    def write_into(self, llm_folder: Path, image_offset: int) -> None:
        """Lay the tables where vLLM looks for them."""
        target = llm_folder / TABLES
        target.parent.mkdir(exist_ok=True)
        self.tilt.save(target, image_offset)


def fit_guidance(
    config: Finetuning,
    *,
    findings: Sequence[str] = FINDINGS,
    shrinkage: float = 30.0,
    strength: float = 0.5,
) -> TrainedGuidance:
    """Fit tables to the training patients' radiographs of a stage.

    Args:
        config: of the stage: its data, image tokenizer, and codes.
        findings: that the labeller knows.
        shrinkage: see `fit_tilt`.
        strength: nats, where a request names none; to be chosen on validation prompts.

    Raises:
        DataError: an unknown finding, or one that no training radiograph or every one has.
    """
    trained = TrainedVqGan.load(config.vqgan)
    everything = config.data.studies()
    studies = refine(everything, config.refinement)
    images = load_codes(config, trained, studies, everything)
    row = {id_: number for number, id_ in enumerate(images.ids)}
    train = [s for s in studies if s.split == "train" and s.id in row and not s.report.is_empty]
    known = target_table(train, findings)
    for finding, column in zip(findings, known.T, strict=True):
        if len(set(column[np.isfinite(column)])) < 2:
            raise DataError(f"no training radiographs with and without {finding}")
    codes = images.codes[[row[study.id] for study in train]]
    tilt = fit_tilt(
        findings,
        codes.reshape(-1, codes.shape[-1]),
        trained.vqgan.quantize.embedding.weight.detach().float().numpy(),
        np.repeat(known, codes.shape[1], axis=0),
        shrinkage,
    )
    prevalence = tuple(round(float(share), 4) for share in (known == PRESENT).mean(axis=0))
    guidance = GuidanceConfig(tuple(findings), prevalence, strength)
    _log.info("guidance: %d radiographs, %d versions of each", *codes.shape[:2])
    return TrainedGuidance(tilt, guidance, trained.code_digest, shrinkage, len(train))
