"""Rules for received instances: header -> what to make of it and where that goes. A TOML file.

    [[rules]]
    name = "chest"
    modality = ["CR", "DX"]
    body_part = ["CHEST", "THORAX"]
    action = "generate"
    outputs = ["enhanced-sr", "comprehensive-3d-sr"]
    destinations = ["pacs"]

The first rule whose conditions all hold decides; where none does, `[default]`, which is `ignore`
unless the file says otherwise. Knows neither the network nor what a destination is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints, model_validator

from llmcxr_service.errors import RulesError
from llmcxr_service.intake_dicom.sop_classes import SOP_CLASSES, SopClassName
from llmcxr_service.operator_file import Name, Table, read_operator_file
from llmcxr_service.receiving import Order, Origin, Output
from llmcxr_service.source_instance import SourceInstance

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Patterns = tuple[Pattern, ...]
DEFAULT = "default"
"""What the order of the default is called; no rule may have this name."""


@dataclass(frozen=True)
class Facts:
    """What rules look at.

    Attributes:
        origin: how the instance came.
        caller: calling AE title, or the name of an HTTP caller.
        source: from its header.
    """

    origin: Origin
    caller: str = field(repr=False)
    source: SourceInstance = field(repr=False)


class Action(Table):
    """What to do with an instance.

    Attributes:
        action: make a report of it, or accept it and drop it.
        outputs: what to make.
        destinations: where that goes.
    """

    action: Literal["generate", "ignore"]
    outputs: tuple[Output, ...] = ()
    destinations: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Action:
        generate = self.action == "generate"
        if generate != bool(self.outputs) or generate != bool(self.destinations):
            raise ValueError("'generate' needs outputs and destinations, 'ignore' has neither")
        if len(set(self.outputs)) < len(self.outputs) or (
            len(set(self.destinations)) < len(self.destinations)
        ):
            raise ValueError("an output or destination is named twice")
        return self

    def order(self, name: str) -> Order | None:
        """The order for a `Receiver`; None for `ignore`."""
        if self.action == "ignore":
            return None
        return Order(name, self.outputs, self.destinations)


class Rule(Action):
    """Conditions and an action; a condition that is not stated always holds.

    Patterns are compared without regard to case; `*` stands for any characters, `?` for one.
    An attribute that an instance lacks is an empty text, which `*` matches.

    Attributes:
        name: in logs and metrics.
        origin: how it came: `stow`, `dimse`.
        calling_ae: calling AE title, or the HTTP caller's name.
        sop_class: by the keyword of PS3.6, table A-1.
        modality: (0008,0060).
        body_part: Body Part Examined (0018,0015).
        view: View Position (0018,5101).
        station: Station Name (0008,1010).
        study_description: (0008,1030).
    """

    name: Name
    origin: tuple[Origin, ...] = ()
    calling_ae: Patterns = ()
    sop_class: tuple[SopClassName, ...] = ()
    modality: Patterns = ()
    body_part: Patterns = ()
    view: Patterns = ()
    station: Patterns = ()
    study_description: Patterns = ()

    def matches(self, facts: Facts) -> bool:
        """Whether all conditions hold."""
        source = facts.source
        if self.origin and facts.origin not in self.origin:
            return False
        if self.sop_class and source.sop_class_uid not in {SOP_CLASSES[k] for k in self.sop_class}:
            return False
        return all(
            _fits(patterns, value)
            for patterns, value in (
                (self.calling_ae, facts.caller),
                (self.modality, source.modality),
                (self.body_part, source.body_part_examined),
                (self.view, source.view_position),
                (self.station, source.station_name),
                (self.study_description, source.study_description),
            )
        )


@dataclass(frozen=True)
class Decision:
    """What the rules say of an instance.

    Attributes:
        rule: name of the rule that decided, or `default`.
        order: what to make; None: the instance is accepted and dropped.
    """

    rule: str
    order: Order | None


class Rules(Table):
    """The whole file.

    Attributes:
        rules: in their order.
        default: for what no rule matches.
    """

    rules: tuple[Rule, ...] = ()
    default: Action = Action(action="ignore")

    @model_validator(mode="after")
    def _distinct(self) -> Rules:
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names) or DEFAULT in names:
            raise ValueError("names of rules must be distinct, and none may be 'default'")
        return self

    def decide(self, facts: Facts) -> Decision:
        """The first matching rule's word."""
        for rule in self.rules:
            if rule.matches(facts):
                return Decision(rule.name, rule.order(rule.name))
        return Decision(DEFAULT, self.default.order(DEFAULT))

    @property
    def orders(self) -> tuple[Order, ...]:
        """All orders that can be given."""
        found = [rule.order(rule.name) for rule in self.rules]
        return tuple(order for order in (*found, self.default.order(DEFAULT)) if order is not None)


def load_rules(path: Path) -> Rules:
    """Read and check a file of rules.

    Raises:
        RulesError: it is missing, no TOML, or something in it cannot be used.
    """
    return read_operator_file(path, Rules, "rules", RulesError)


def _fits(patterns: Patterns, value: str) -> bool:
    lower = value.strip().lower()
    return not patterns or any(fnmatchcase(lower, pattern.lower()) for pattern in patterns)
