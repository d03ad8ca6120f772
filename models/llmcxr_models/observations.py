"""Observations: findings that the model was taught to answer with yes or no, and their codes. Pure.

A question has one wording here, so that training, serving and evaluation ask it alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmcxr_models.errors import InvalidCheckpoint

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3 section 8, FHIR Coding).

    Attributes:
        value: the code.
        scheme: DICOM's designator: `SCT` for SNOMED CT, `99LLMCXR` for our own.
        meaning: for people.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class ObservableFinding:
    """Something that can be asked for with a yes / no question.

    Attributes:
        name: key in manifests and answers.
        question: the wording that is served; training paraphrases it.
        code: its concept.
    """

    name: str
    question: str
    code: Code


@dataclass(frozen=True)
class Observation:
    """What the model says of one finding in one radiograph.

    Attributes:
        finding: which.
        probability: of "yes" against "no", in [0, 1]; uncalibrated unless the checkpoint says
            otherwise.
        mentioned: whether the drafted report affirms it; None where the text cannot tell.
    """

    finding: ObservableFinding
    probability: float
    mentioned: bool | None


def to_state(
    probabilities: Mapping[str, float], stated_from: Mapping[str, float]
) -> tuple[str, ...]:
    """Findings that a report's prompt states, in the order of the second (docs/decisions/0018).

    Args:
        probabilities: what the model itself answers, by name; more than are stated may be here.
        stated_from: the least probability with which a finding is stated, by name.
    """
    return tuple(name for name, least in stated_from.items() if probabilities[name] >= least)


def _own(value: str, meaning: str) -> Code:
    return Code(value, "99LLMCXR", meaning)


# SNOMED CT where one concept says exactly what the question asks; ours where it does not
# ("a nodule or mass" is neither of the two concepts).
OBSERVABLE_FINDINGS: dict[str, ObservableFinding] = {
    finding.name: finding
    for finding in (
        ObservableFinding(
            "normal", "Is this radiograph normal?", Code("17621005", "SCT", "Normal")
        ),
        ObservableFinding(
            "cardiomegaly", "Is there cardiomegaly?", Code("8186001", "SCT", "Cardiomegaly")
        ),
        ObservableFinding(
            "pleural effusion",
            "Is there pleural effusion?",
            Code("60046008", "SCT", "Pleural effusion"),
        ),
        ObservableFinding(
            "atelectasis", "Is there atelectasis?", Code("46621007", "SCT", "Atelectasis")
        ),
        ObservableFinding(
            "lung opacity", "Is there lung opacity?", _own("LUNG-OPACITY", "Lung opacity")
        ),
        ObservableFinding(
            "nodule or mass",
            "Is there a nodule or mass?",
            _own("NODULE-MASS", "Lung nodule or mass"),
        ),
        ObservableFinding(
            "calcified granuloma",
            "Is there a calcified granuloma?",
            _own("CALC-GRANULOMA", "Calcified granuloma of lung"),
        ),
        ObservableFinding(
            "congestion or edema",
            "Is there pulmonary congestion or edema?",
            _own("CONGESTION-EDEMA", "Pulmonary congestion or edema"),
        ),
    )
}


def observable_findings(names: tuple[str, ...]) -> tuple[ObservableFinding, ...]:
    """The findings of these names, in their order.

    Raises:
        InvalidCheckpoint: a name that this version does not know.
    """
    unknown = [name for name in names if name not in OBSERVABLE_FINDINGS]
    if unknown:
        raise InvalidCheckpoint("the manifest names findings that are not known here.")
    return tuple(OBSERVABLE_FINDINGS[name] for name in names)
