"""Names in PromQL, found without a parser: enough for expressions that promtool accepts."""

from __future__ import annotations

import re

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABELS = re.compile(r"\{[^}]*\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\S+")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b")
_OPERATORS = {"and", "or", "unless", "bool"}


def metrics_in(expression: str) -> set[str]:
    """Names of the metrics that an expression asks for."""
    for pattern in (_STRING, _LABELS, _GROUPING, _RANGE):
        expression = pattern.sub(" ", expression)
    return {
        word
        for word in _WORD.findall(expression)
        if word not in _OPERATORS and not _is_function(word, expression)
    }


def _is_function(word: str, expression: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\s*\(", expression) is not None
