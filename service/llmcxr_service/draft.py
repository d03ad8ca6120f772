"""What the model made, as a value that every output format is rendered from. It knows no format.

Everything here is a preliminary draft by a machine; each renderer has to say so in its own way.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from llmcxr_models.observations import Observation
from llmcxr_models.report import Report
from llmcxr_service.rendering import HowDrawn, ModelIdentity
from llmcxr_service.source_instance import SourceInstance

_NAMESPACE = uuid.UUID("6f0f6f0a-2f8c-5a4e-9d5e-6c1b5a2d7e11")


@dataclass(frozen=True)
class DraftReport:
    """A drafted report of one radiograph.

    Attributes:
        report: the two sections.
        observations: findings with probabilities; empty where the checkpoint has none.
        model: what wrote it.
        how: it was drawn.
        preprocessing: name of the pixels' preparation.
        created: when, with a time zone.
        source: the instance that it is about; None for a picture without identity.
        warnings: sentences for the reader.
        language: of the text, RFC 5646.
    """

    report: Report = field(repr=False)
    observations: tuple[Observation, ...] = field(repr=False)
    model: ModelIdentity
    how: HowDrawn
    preprocessing: str
    created: datetime
    source: SourceInstance | None
    warnings: tuple[str, ...] = ()
    language: str = "en"


@dataclass(frozen=True)
class SyntheticRadiograph:
    """An image that the model drew; it belongs to no patient and no study.

    Attributes:
        grey: (S, S) 8-bit, MONOCHROME2.
        prompt: the report that it was drawn from.
        model: what drew it.
        how: it was drawn.
        created: when, with a time zone.
    """

    grey: NDArray[np.uint8] = field(repr=False)
    prompt: str = field(repr=False)
    model: ModelIdentity
    how: HowDrawn
    created: datetime


def derived_uid(kind: str, *parts: str) -> UID:
    """A UID that the same kind and parts always give (UUID-derived, PS3.5 B.2; RFC 9562, v5).

    An object that is made again after a crash is then the same object to an archive, which
    keeps one. Take the source's UID, the model's digest and what else decides the content.

    Args:
        kind: of the object, for example `enhanced-sr` or `enhanced-sr-series`.
        parts: what it is made of.
    """
    name = "\x1f".join((kind, *parts))
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")
