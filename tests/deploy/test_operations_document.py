"""docs/operations.md lists exactly the settings that exist, with their defaults."""

from __future__ import annotations

import re
from pathlib import Path

from llmcxr_service.settings import PREFIX, Settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_settings_table() -> None:
    rows = re.findall(r"^\| `(LLMCXR_\w+)` \| (\S+) \|", DOCUMENT.read_text(), re.M)
    documented = {name: default.strip("`") for name, default in rows}
    actual = {
        f"{PREFIX}{name.upper()}": _written(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert documented == actual


def _written(default: object) -> str:
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)
