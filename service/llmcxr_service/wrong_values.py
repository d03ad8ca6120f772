"""A validation error -> what is wrong, place by place, without the values that were found there."""

from __future__ import annotations

from pydantic import ValidationError


def wrong_values(error: ValidationError) -> str:
    """Where and what, in a fixed order; pydantic's own text quotes values."""
    return "; ".join(sorted(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
