"""UIDs of the objects that are made from one instance. Pure.

Decided by what is said and about what: the kind, the source instance, the model and the content.
The same draft rendered again, or drawn again with the same words, is the same object; a draft
with other words (another seed, another indication) is another one, as PS3.5 section 9 asks. Time
and seed are circumstances, not content: a draft whose words come out the same is not stored twice.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from pydicom.uid import UID

from llmcxr_service.draft import DraftReport, derived_uid
from llmcxr_service.source_instance import SourceInstance

CODING_SCHEME_UID = derived_uid("coding-scheme", "99LLMCXR")
"""Of our own codes, in DICOM and (as urn:oid) in FHIR."""


@dataclass(frozen=True)
class ObjectIds:
    """Where one object is filed: its own UID and its series'; both are new ones."""

    sop_instance: UID
    series: UID


def object_ids(
    kind: str, source: SourceInstance, draft: DraftReport, *content: object
) -> ObjectIds:
    """UIDs of one object; each has a series of its own.

    Args:
        kind: of object.
        source: what it is about.
        draft: what it is made from.
        content: everything of the draft that is shown in this kind of object.
    """
    parts = (source.sop_instance_uid, draft.model.digest, content_digest(*content))
    return ObjectIds(derived_uid(kind, *parts), derived_uid(f"{kind}-series", *parts))


def content_digest(*content: object) -> str:
    """SHA-256 of the parts of a content, hexadecimal."""
    return hashlib.sha256("\x1f".join(str(part) for part in content).encode()).hexdigest()


def report_content(draft: DraftReport) -> tuple[object, ...]:
    """What a reader of the text sees."""
    report = draft.report
    return (report.findings, report.impression, draft.language, draft.warnings)


def findings_content(draft: DraftReport) -> tuple[object, ...]:
    """What a reader of the observations sees; probabilities as they are written."""
    observed = ((o.finding.name, percent(o.probability), o.mentioned) for o in draft.observations)
    return (tuple(observed), draft.warnings)


def percent(probability: float) -> float:
    """A probability in per cent, to one decimal: more would be noise."""
    return round(100.0 * probability, 1)


def uuid_of(uid: UID) -> str:
    """The UUID in a UID that `derived_uid` made."""
    return str(uuid.UUID(int=int(uid.removeprefix("2.25."))))
