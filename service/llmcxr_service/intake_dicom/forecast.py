"""What would become of a file, in sentences: the same steps as the reception, without keeping it.

For the command line; the file is read in this process.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmcxr_service.deliveries.destinations import load_destinations, takes
from llmcxr_service.errors import RulesError
from llmcxr_service.intake_dicom.opening import read_rules
from llmcxr_service.intake_dicom.rules import DEFAULT, Facts
from llmcxr_service.intake_dicom.sop_classes import accepted_sop_classes
from llmcxr_service.receiving import Order, Origin
from llmcxr_service.settings import Settings
from llmcxr_service.source_instance import identify


def forecast(settings: Settings, data: bytes, origin: Origin, caller: str) -> Iterator[str]:
    """Sentences about a file.

    Args:
        settings: the configuration.
        data: the file.
        origin: how it would come.
        caller: calling AE title, or the name of an HTTP caller.

    Raises:
        RulesError: there are no rules.
        InvalidInput: the file is no instance that can be received.
    """
    rules = read_rules(settings)
    if rules is None:
        raise RulesError("LLMCXR_DICOM_RULES names no file of rules.")
    source = identify(data)
    accepted = accepted_sop_classes(secondary_capture=settings.accept_secondary_capture)
    if source.sop_class_uid not in accepted:
        yield "It would be refused: its SOP class is not received."
        return
    decision = rules.decide(Facts(origin, caller, source))
    which = "No rule matches" if decision.rule == DEFAULT else f"Rule {decision.rule} matches"
    if decision.order is None:
        yield f"{which}: it would be accepted and dropped."
        return
    yield f"{which}: a report would be made, as {', '.join(decision.order.outputs)}."
    yield from _ways(settings, decision.order)


def _ways(settings: Settings, order: Order) -> Iterator[str]:
    assert settings.destinations is not None  # the rules were checked against them
    known = load_destinations(settings.destinations).by_name
    for name in order.destinations:
        sent = [output for output in order.outputs if takes(known[name], output)]
        yield f"{name} would get {', '.join(sent)}."
