"""What a reader can answer, and in which numbers. Pure; the page's words are in `page/`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Judgement = Annotated[int, Field(ge=1, le=4)]
"""1 certainly real, 2 rather real, 3 rather generated, 4 certainly generated: a forced choice."""

Problem = Literal["anatomy", "texture", "borders", "devices", "writing"]
"""What looks wrong in a picture."""

Preference = Annotated[int, Field(ge=-2, le=2)]
"""-2 the first report is much better, 0 they are equally good, 2 the second is much better."""

ErrorCategory = Literal["false_finding", "missed_finding", "location", "severity", "comparison"]
"""As in ReXVal (Yu et al., Patterns 4(9):100802, 2023), its two about comparisons in one."""

Gravity = Annotated[int, Field(ge=0, le=2)]
"""0 no such error, 1 a clinically insignificant one, 2 a significant one."""

PROBLEMS: tuple[str, ...] = get_args(Problem)
ERROR_CATEGORIES: tuple[str, ...] = get_args(ErrorCategory)
GENERATED_FROM = 3
"""A judgement from here on says `generated`."""


class ImageAnswer(BaseModel):
    """Whether a picture is real.

    Attributes:
        judgement: see `Judgement`.
        problems: what looks wrong, each once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["image"]
    judgement: Judgement
    problems: frozenset[Problem] = Field(default=frozenset(), strict=False)


class ReportAnswer(BaseModel):
    """Which of two reports of a radiograph is better, and what is wrong in each.

    Attributes:
        preference: see `Preference`.
        first: gravity by category of the report that is shown first; without one there is none.
        second: the same of the other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["report"]
    preference: Preference
    first: dict[ErrorCategory, Gravity] = {}
    second: dict[ErrorCategory, Gravity] = {}


Answer = Annotated[ImageAnswer | ReportAnswer, Field(discriminator="kind")]
ANSWER: TypeAdapter[ImageAnswer | ReportAnswer] = TypeAdapter(Answer)
