"""What a classifier of radiographs is taught: findings by study, from the report's raw text.

The rule, finding by finding:

1. present (1): the labeller finds it affirmed in the raw findings and impression, or an index
   term names it and does not call it borderline;
2. unknown (NaN, no loss, no measurement): the text leaves it open, or the index calls it
   borderline, and nothing affirms it; or there is neither text nor index;
3. absent (0): everything else. Reports name what is there, not all that is not.

"No Finding" is present where no other observation (devices aside, as CheXpert has it) is present
or unknown. The raw text, because `data.clean` drops sentences around a redaction, and with them
statements such as "XXXX opacity in the left base". The index terms, because the indexers read
the words that were redacted afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.finding_mentions import FINDINGS, NO_FINDING, SUPPORT_DEVICES
from llmcxr_models.labeller import Mention, label
from llmcxr_training.data import DataError, Study

PRESENT, ABSENT, UNKNOWN = 1.0, 0.0, math.nan

HEADINGS: dict[str, frozenset[str]] = {
    "Cardiomegaly": frozenset({"cardiomegaly"}),
    "Lung Lesion": frozenset({"nodule", "mass", "granuloma", "calcified granuloma"}),
    "Lung Opacity": frozenset({"opacity", "airspace disease", "infiltrate", "consolidation"}),
    "Edema": frozenset({"pulmonary edema", "pulmonary congestion"}),
    "Consolidation": frozenset({"consolidation"}),
    "Atelectasis": frozenset({"pulmonary atelectasis"}),
    "Pneumothorax": frozenset({"pneumothorax", "hydropneumothorax"}),
    "Pleural Effusion": frozenset({"pleural effusion"}),
    "Fracture": frozenset({"fractures, bone"}),
    SUPPORT_DEVICES: frozenset(
        {
            "catheters, indwelling",
            "implanted medical device",
            "medical device",
            "stents",
            "surgical instruments",
            "tube, inserted",
        }
    ),
}
"""First parts of the index terms that affirm a finding; its own name always does."""

_BORDERLINE = frozenset({"borderline", "questionable"})


def targets(text: str, index_terms: Sequence[str]) -> dict[str, float]:
    """Present, absent or unknown for each of the labeller's observations.

    Args:
        text: raw findings and impression.
        index_terms: lower case, with qualifiers, for example `cardiomegaly/mild`.
    """
    if not text.strip() and not index_terms:
        return dict.fromkeys(FINDINGS, UNKNOWN)
    mentions = label(text)
    found = {
        finding: _target(mentions[finding], _indexed(finding, index_terms))
        for finding in FINDINGS
        if finding != NO_FINDING
    }
    others = [value for finding, value in found.items() if finding != SUPPORT_DEVICES]
    if PRESENT in others:
        found[NO_FINDING] = ABSENT
    else:
        found[NO_FINDING] = UNKNOWN if any(map(math.isnan, others)) else PRESENT
    return found


def target_table(studies: Sequence[Study], findings: Sequence[str]) -> NDArray[np.float32]:
    """Targets (N, len(findings)) of `studies`.

    Raises:
        DataError: not a finding of the labeller.
    """
    if unknown := set(findings) - set(FINDINGS):
        raise DataError(f"no findings of the labeller: {', '.join(sorted(unknown))}")
    rows = [targets(s.raw_text, s.labels) for s in studies]
    return np.array([[row[f] for f in findings] for row in rows], np.float32).reshape(
        len(studies), len(findings)
    )


def _indexed(finding: str, index_terms: Sequence[str]) -> float:
    headings = HEADINGS.get(finding, frozenset()) | {finding.lower()}
    parts = [[part.strip() for part in term.split("/")] for term in index_terms]
    named = [qualifiers for heading, *qualifiers in parts if heading in headings]
    if any(not _BORDERLINE & set(qualifiers) for qualifiers in named):
        return PRESENT
    return UNKNOWN if named else ABSENT


def _target(mention: Mention, indexed: float) -> float:
    if mention == Mention.POSITIVE or indexed == PRESENT:
        return PRESENT
    return UNKNOWN if mention is Mention.UNCERTAIN or math.isnan(indexed) else ABSENT
