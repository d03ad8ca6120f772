"""From settings to a reception and archives; their files are checked first."""

from __future__ import annotations

from llmcxr_service.deliveries.destinations import Destinations, load_destinations, takes
from llmcxr_service.errors import RulesError
from llmcxr_service.intake_dicom.reception import Identify, Reception, Verdict
from llmcxr_service.intake_dicom.rules import Rules, load_rules
from llmcxr_service.intake_dicom.sop_classes import accepted_sop_classes
from llmcxr_service.intake_dicom.sources import Sources, load_sources
from llmcxr_service.intake_dicom.wado import Archives
from llmcxr_service.observability import Metrics
from llmcxr_service.receiving import Order, Origin, Receiver
from llmcxr_service.settings import Settings


def read_rules(settings: Settings) -> Rules | None:
    """The rules, which name only destinations that exist; None where nothing is received.

    Raises:
        RulesError: they cannot be used.
        DestinationsError: the destinations cannot.
    """
    if settings.dicom_rules is None:
        return None
    rules = load_rules(settings.dicom_rules)
    if settings.destinations is None:
        raise RulesError("LLMCXR_DICOM_RULES needs LLMCXR_DESTINATIONS.")
    destinations = load_destinations(settings.destinations)
    for order in rules.orders:
        _check_order(order, destinations)
    return rules


def open_reception(
    settings: Settings, rules: Rules, receiver: Receiver, identify: Identify, metrics: Metrics
) -> Reception:
    """What takes instances in, for every way that they come.

    Args:
        settings: the configuration.
        rules: from `read_rules`.
        receiver: keeps them.
        identify: reads headers.
        metrics: where to count.
    """
    for origin in Origin:
        for verdict in Verdict:
            metrics.received.labels(origin.value, verdict.word)  # 0 before the first one
    return Reception(
        rules,
        receiver,
        identify,
        sop_classes=accepted_sop_classes(secondary_capture=settings.accept_secondary_capture),
        max_bytes=settings.max_body_bytes,
        count=lambda origin, verdict: metrics.received.labels(origin, verdict.word).inc(),
    )


def open_archives(settings: Settings) -> Archives:
    """The archives that callers may name.

    Raises:
        SourcesError: the file cannot be used.
    """
    return Archives(read_sources(settings), settings.max_body_bytes)


def read_sources(settings: Settings) -> Sources:
    """The archives that callers may name; raises as `open_archives` does."""
    return Sources() if settings.dicom_sources is None else load_sources(settings.dicom_sources)


def _check_order(order: Order, destinations: Destinations) -> None:
    """Every destination exists and gets something; every output has somewhere to go."""
    known = destinations.by_name
    unknown = [name for name in order.destinations if name not in known]
    if unknown:
        raise RulesError(
            f"Rule {order.rule}: there is no destination {', '.join(sorted(unknown))}."
        )
    for name in order.destinations:
        if not any(takes(known[name], output) for output in order.outputs):
            raise RulesError(f"Rule {order.rule}: {name} can take none of the outputs.")
    for output in order.outputs:
        if not any(takes(known[name], output) for name in order.destinations):
            raise RulesError(f"Rule {order.rule}: no destination can take {output}.")
