"""What a report's text says of the findings that are also asked for by question. Pure."""

from __future__ import annotations

from llmcxr_models.finding_mentions import NO_FINDING
from llmcxr_models.labeller import Mention, label

NORMAL = "normal"

_OBSERVATIONS: dict[str, tuple[str, ...]] = {
    NORMAL: (NO_FINDING,),
    "cardiomegaly": ("Cardiomegaly",),
    "pleural effusion": ("Pleural Effusion",),
    "atelectasis": ("Atelectasis",),
    "lung opacity": ("Lung Opacity", "Consolidation"),
    "nodule or mass": ("Lung Lesion",),
    "congestion or edema": ("Edema",),
}
"""The labeller's observations by finding's name; it has none for a calcified granuloma."""


def mentions(text: str) -> dict[str, bool | None]:
    """By finding's name, whether `text` affirms it; None where it is uncertain or silent on all.

    A text that says nothing of a finding counts as not affirming it: reports name what is there.
    """
    if not text.strip():
        return dict.fromkeys(_OBSERVATIONS)
    found = label(text)
    return {name: _strongest([found[o] for o in them]) for name, them in _OBSERVATIONS.items()}


def affirmed(text: str) -> tuple[str, ...]:
    """Names of the findings that `text` affirms; "normal" is none."""
    return tuple(name for name, said in mentions(text).items() if said and name != NORMAL)


def _strongest(mentions_found: list[Mention]) -> bool | None:
    strongest = max(mentions_found)
    return None if strongest is Mention.UNCERTAIN else strongest is Mention.POSITIVE
