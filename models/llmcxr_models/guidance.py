"""What the image of a report is to lean towards while it is drawn (docs/decisions/0017).

The rule-based labeller reads in the prompt which findings it affirms; a checkpoint's tables say
which codes speak for them, place by place. The tables themselves are read inside vLLM only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.guidance_request import LARGEST_STRENGTH, write_request
from llmcxr_models.picking import read_wanted


@dataclass(frozen=True)
class GuidanceConfig:
    """What a manifest says of a checkpoint's tables.

    Attributes:
        findings: of the tables, in their order; names of `FINDINGS`.
        prevalence: share of the training reports that affirm each.
        strength: nats, where a request names none.
    """

    findings: tuple[str, ...]
    prevalence: tuple[float, ...]
    strength: float

    def __post_init__(self) -> None:
        if not self.findings or set(self.findings) - set(FINDINGS):
            raise InvalidCheckpoint("the guidance names no findings, or unknown ones.")
        if len(self.prevalence) != len(self.findings):
            raise InvalidCheckpoint("the guidance has one prevalence a finding.")
        if not 0.0 <= self.strength <= LARGEST_STRENGTH:
            raise InvalidCheckpoint("the guidance's strength is out of range.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GuidanceConfig:
        """Read what `to_dict` gave.

        Raises:
            InvalidCheckpoint: a key is missing, unknown, or of another type.
        """
        try:
            lists = {name: tuple(values[name]) for name in ("findings", "prevalence")}
            return cls(**values | lists)
        except (KeyError, TypeError) as error:
            raise InvalidCheckpoint("the guidance's description has other keys.") from error

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the inverse of `from_dict`."""
        lists = {"findings": list(self.findings), "prevalence": list(self.prevalence)}
        return asdict(self) | lists


@dataclass(frozen=True)
class Guidance:
    """What one image leans towards.

    Attributes:
        towards: affirmed findings.
        weights: how much each finding of the tables is wanted, in their order.
        strength: nats, above 0.
    """

    towards: tuple[str, ...]
    weights: tuple[float, ...]
    strength: float

    def to_request(self) -> dict[str, Any]:
        """`vllm_xargs` of a request."""
        return write_request(self.weights, self.strength)


def guide(report: str, config: GuidanceConfig, strength: float | None = None) -> Guidance | None:
    """What the image of `report` is to lean towards.

    A finding that is affirmed is wanted by as much as that is news, one minus its prevalence; one
    that is denied or not spoken of, by minus its prevalence; an uncertain one not at all.

    Args:
        report: the prompt.
        config: of the checkpoint's tables.
        strength: nats; None for the checkpoint's own.

    Returns:
        None for an image of the model alone: a strength of 0, or nothing is affirmed that the
        tables know. A nodule that they do not know is no reason to draw a normal chest.
    """
    strength = config.strength if strength is None else strength
    wanted = read_wanted(report, config.findings)
    if not strength or not wanted.present:
        return None
    weights = [
        0.0 if finding in wanted.left_open else float(finding in wanted.present) - prevalence
        for finding, prevalence in zip(config.findings, config.prevalence, strict=True)
    ]
    return Guidance(wanted.present, tuple(weights), strength)
