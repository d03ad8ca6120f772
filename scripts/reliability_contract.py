"""Section `contract`: requests made from the OpenAPI document by schemathesis, good and bad.

The gateway is the real application on a real port, with everything configured that has routes:
jobs, received instances, deliveries, idempotency; behind it a scripted vLLM and an archive. Once
it is open, and once it wants an API key. An answer must have a status, a media type, headers and
a body that the document has for its operation; what the document does not allow must be refused.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import schemathesis
from contract_gateway import RELATED, full_gateway, register_files
from reliability_runs import Figures
from schemathesis import Case, HookContext, engine
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import events
from schemathesis.engine.recorder import Interaction

DOCUMENT = "/openapi.json"
PHASES = ("examples", "coverage", "fuzzing", "stateful")
ACCEPT = ("*/*", "application/json", "text/*", "image/gif", "application/xml;q=0.1", "nonsense", "")
DOCUMENTED = ["2xx", "3xx", "4xx", "503"]
LATE = "/problems/deadline-exceeded"
"""A 504 that the caller's own Request-Timeout asked for."""
# What the document allows may still be refused: a file that is no radiograph, a text too long.
UNUSED = "positive_data_acceptance"
OF_ACCESS = "ignored_auth"
SERVER_ERROR = "not_a_server_error"


@dataclass
class Tried:
    """What came of the cases of one gateway.

    Attributes:
        statuses: of the answers.
        operations: that were asked.
        late: answers 504 to a caller's own Request-Timeout.
        failures: by check and operation; of each, what was said the first time.
        counts: of failures, by check.
        errors: of the experiment itself.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    late: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def figures(self) -> Figures:
        """As JSON."""
        return {
            "cases": self.statuses.total(),
            "operations": len(self.operations),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "own_deadlines_met_by_504": self.late,
            "server_errors": self.counts[SERVER_ERROR],
            "undocumented": sum(
                n for check, n in self.counts.items() if check not in (SERVER_ERROR, OF_ACCESS)
            ),
            "let_in": self.counts[OF_ACCESS],
            "failures": self.failures,
            "errors_of_the_experiment": self.errors,
        }


def add_contract_options(parser: argparse.ArgumentParser) -> None:
    """The section's options."""
    parser.add_argument("--examples", type=int, default=100, help="drawn for each operation")
    parser.add_argument("--phases", default=",".join(PHASES), help="some of these")
    parser.add_argument("--seed", type=int, default=1)


def run_contract(arguments: argparse.Namespace, checkpoint: Path) -> Figures:
    """First open, then guarded."""
    register_files()
    found = {}
    for name, guarded in (("open", False), ("guarded", True)):
        with tempfile.TemporaryDirectory() as folder:
            gateway = full_gateway(checkpoint, Path(folder), guarded=guarded)
            with gateway as (url, key):
                found[name] = _try(arguments, url, key, guarded=guarded).figures()
    sums = {
        name: sum(each[name] for each in found.values())
        for name in ("cases", "server_errors", "undocumented", "let_in")
    }
    broken = [error for each in found.values() for error in each["errors_of_the_experiment"]]
    return {
        "what": "requests made from the OpenAPI document",
        "schemathesis": version("schemathesis"),
        "seed": arguments.seed,
        **sums,
        **found,
        "holds": not (sums["server_errors"] or sums["undocumented"] or sums["let_in"] or broken),
    }


def _try(arguments: argparse.Namespace, url: str, key: str, *, guarded: bool) -> Tried:
    config = _config(arguments, key, guarded=guarded)
    schema = schemathesis.openapi.from_url(url + DOCUMENT, config=config)
    schemathesis.hooks.unregister_all()
    schemathesis.hook("before_call")(_dress(random.Random(arguments.seed)))
    tried = Tried()
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _add(tried, event)
        elif isinstance(event, events.NonFatalError):
            tried.errors.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return tried


def _config(arguments: argparse.Namespace, key: str, *, guarded: bool) -> SchemathesisConfig:
    chosen = arguments.phases.split(",")
    return SchemathesisConfig.from_dict(
        {
            "seed": arguments.seed,
            "headers": {"Authorization": f"Bearer {key}"},
            "continue-on-failure": True,
            "request-timeout": 60.0,
            "checks": {
                SERVER_ERROR: {"expected-statuses": DOCUMENTED},
                UNUSED: {"enabled": False},
                OF_ACCESS: {"enabled": guarded},
            },
            "generation": {
                "max-examples": arguments.examples,
                "no-shrink": True,
                "database": "none",
            },
            "phases": {name: {"enabled": name in chosen} for name in PHASES},
        }
    )


def _dress(dice: random.Random) -> Callable[..., None]:
    """What the document says in words only: what is accepted, and a boundary of parts."""

    def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        del context, kwargs
        produced = [
            media_type
            for response in case.operation.definition.raw["responses"].values()
            for media_type in response.get("content", {})
        ]
        if dice.random() < 0.7:
            case.headers["Accept"] = dice.choice([*produced, *ACCEPT])
        if (case.media_type or "").startswith("multipart/related") and dice.random() < 0.9:
            case.headers["Content-Type"] = RELATED

    return before_call


def _add(tried: Tried, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    for identifier, interaction in recorder.interactions.items():
        response = interaction.response
        operation = recorder.cases[identifier].value.operation.label
        if response is None:
            tried.errors.append(f"{operation}: no answer")
            continue
        tried.statuses[response.status_code] += 1
        tried.operations.add(operation)
        late = response.status_code == 504 and LATE.encode() in (response.content or b"")
        tried.late += late
        for check in recorder.checks.get(identifier, []):
            if check.failure_info is None or (late and check.name == SERVER_ERROR):
                continue
            tried.counts[check.name] += 1
            said = _said(interaction, check.failure_info.failure)
            tried.failures.setdefault(f"{check.name}: {operation}", said)


def _said(interaction: Interaction, failure: Failure) -> str:
    request, response = interaction.request, interaction.response
    content = (response.content or b"")[:300] if response else b""
    shown = {name: request.headers.get(name) for name in ("Accept", "Content-Type")}
    asked = f"{request.method} {request.uri} {shown} {(request.body or b'')[:300]!r}"
    return f"{failure.title}: {failure.message[:500]}\nfor {asked}\ngot {content!r}"
