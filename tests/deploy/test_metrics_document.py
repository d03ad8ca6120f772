"""docs/metrics.md lists exactly the metrics that a live gateway shows, with type and labels."""

from __future__ import annotations

import re

from tests.deploy.conftest import ROOT, Live

ROWS = re.findall(
    r"^\| `(\w+)(?:\{([\w,]+)\})?` \| (\w+) \| (.+) \|$",
    (ROOT / "docs" / "metrics.md").read_text(),
    re.M,
)


def test_every_metric_is_described(live: Live) -> None:
    documented = {name: kind for name, _, kind, _ in ROWS}
    assert len(documented) == len(ROWS)
    assert documented == {name: kind for name, (kind, _) in live.families.items()}


def test_labels_are_described(live: Live) -> None:
    for name, labels, _, _ in ROWS:
        actual = live.labels(name)
        if actual is not None:
            assert actual == set(filter(None, labels.split(","))), name
