"""Write Grafana's dashboards: `python scripts/make_dashboards.py [DIRECTORY]`.

They are kept in deploy/grafana/dashboards, where Grafana reads them; a test says when they are
not what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dashboard_hospital import HOSPITAL
from dashboard_json import Dashboard
from dashboard_quality import QUALITY
from dashboard_service import SERVICE
from dashboard_vllm import VLLM

DIRECTORY = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "dashboards"
DASHBOARDS = (SERVICE, QUALITY, VLLM, HOSPITAL)


def text_of(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(dashboard.to_json(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        (directory / f"{dashboard.uid}.json").write_text(text_of(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
