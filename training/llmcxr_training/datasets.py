"""Where radiographs and reports come from: the `[data]` table of every training configuration.

A data set is anything with `studies(splits)` and `collection_names`; these are the kinds there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llmcxr_training.data import DataError, Study, read_manifest
from llmcxr_training.mimic import read_mimic

TRAINING_SPLITS = ("train", "val")
"""What a training command may read; test patients are for evaluation alone."""


class JsonlData(BaseModel):
    """A folder of pictures described by a JSONL manifest.

    Attributes:
        manifest: the file; paths in it are relative to its folder.
        collections: those of the manifest's collections that are used; None for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["jsonl"] = "jsonl"
    manifest: Path
    collections: tuple[str, ...] | None = None

    @property
    def collection_names(self) -> tuple[str, ...]:
        """For the provenance of what is trained."""
        return self.collections or (self.manifest.parent.name,)

    def studies(self, splits: Iterable[str] = TRAINING_SPLITS) -> list[Study]:
        """The radiographs of `splits`.

        Raises:
            DataError: no such file, a malformed line, a patient in two splits, or nothing left.
        """
        return read_manifest(self.manifest, collections=self.collections, splits=splits)


class MimicData(BaseModel):
    """MIMIC-CXR-JPG with the report texts of MIMIC-CXR, as PhysioNet lays them out.

    Attributes:
        images: root of MIMIC-CXR-JPG 2.x, with its tables.
        reports: the directory that holds `files` with the report texts.
        labeller: whose labels the studies carry.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mimic"] = "mimic"
    images: Path
    reports: Path
    labeller: Literal["chexpert", "negbio"] = "chexpert"

    @property
    def collection_names(self) -> tuple[str, ...]:
        """For the provenance of what is trained."""
        return ("mimic-cxr",)

    def studies(self, splits: Iterable[str] = TRAINING_SPLITS) -> list[Study]:
        """The radiographs of `splits`.

        Raises:
            DataError: a table is missing or has other columns, a patient is in two splits, or
                nothing is left.
        """
        wanted = set(splits)
        everything = read_mimic(self.images, self.reports, labeller=self.labeller)
        kept = [study for study in everything if study.split in wanted]
        if not kept:
            raise DataError("MIMIC-CXR: no record of the wanted splits can be used")
        return kept


Data = Annotated[JsonlData | MimicData, Field(discriminator="kind")]
