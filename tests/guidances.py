"""Checkpoints that guide their drawing, by drawn tables."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmcxr_models.checkpoint import LLM_FOLDER, hash_files, read_manifest, write_manifest
from llmcxr_models.finding_tilt import TABLES, FindingTilt
from llmcxr_models.guidance import GuidanceConfig

GUIDED = GuidanceConfig(("No Finding", "Cardiomegaly", "Pleural Effusion"), (0.6, 0.08, 0.05), 0.5)


def drawn_tilt(length: int, codes: int, findings: tuple[str, ...] = GUIDED.findings) -> FindingTilt:
    """Random tables of images of `length` codes."""
    rng = np.random.default_rng(0)
    return FindingTilt(
        findings,
        rng.normal(size=(len(findings), length, 3)).astype(np.float32),
        rng.normal(size=(codes, 3)).astype(np.float32),
        np.full((length, codes), 1.0 / codes, np.float32),
    )


def with_guidance(checkpoint: Path, target: Path, guidance: GuidanceConfig = GUIDED) -> Path:
    """A copy of a checkpoint that guides its drawing."""
    shutil.copytree(checkpoint, target)
    manifest = read_manifest(target)
    vocabulary, tables = manifest.vocabulary, target / LLM_FOLDER / TABLES
    tables.parent.mkdir()
    tilt = drawn_tilt(vocabulary.image_length, vocabulary.codebook_size, guidance.findings)
    tilt.save(tables, vocabulary.image_offset)
    write_manifest(target, replace(manifest, guidance=guidance, files=hash_files(target)))
    return target
