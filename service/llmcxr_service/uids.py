"""What a DICOM UID looks like (PS3.5, 9.1), for schemas and URLs."""

from __future__ import annotations

import re

UID_PATTERN = r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+$"
"""Digits and dots without leading zeros: nothing that means anything in a URL."""
UID_MAX_LENGTH = 64


def is_uid(text: str) -> bool:
    """Whether `text` is a UID."""
    return len(text) <= UID_MAX_LENGTH and re.fullmatch(UID_PATTERN, text) is not None
