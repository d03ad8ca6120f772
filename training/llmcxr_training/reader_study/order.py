"""In which order a reader sees the cases: their own, and the same whenever they come back."""

from __future__ import annotations

import random

from llmcxr_training.reader_study.study import Case, Study

KINDS = ("image", "report")


def order_for(study: Study, reader: str) -> list[Case]:
    """Pictures first, then reports; within each, part by part, shuffled by the reader's name.

    A case that is repeated is in the first part and its repetition in the last.
    """
    rng = random.Random(f"{study.digest}\0{reader}")  # noqa: S311  an order, no secret
    found: list[Case] = []
    for kind in KINDS:
        for part in range(3):
            chosen = [c for c in study.file.cases if c.kind == kind and c.part == part]
            found += rng.sample(chosen, len(chosen))
    return found
