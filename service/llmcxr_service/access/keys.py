"""API keys: made, written down as hashes, recognised, revoked.

A key is `llmcxr_ID_SECRET`. The secret has 256 random bits, so its SHA-256 cannot be turned back
by trying, and a deliberately slow hash (scrypt, argon2), which is for what people think up, would
only give attackers a way to keep the processor busy (NIST SP 800-63B, 5.1.2.2, asks for slow
hashes below 112 bits only).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmcxr_service.access.callers import Caller, Scope
from llmcxr_service.access.refusals import Cause, refused
from llmcxr_service.errors import AccessError

log = logging.getLogger(__name__)

PREFIX = "llmcxr_"
"""By which a key is told from a token; also what secret scanners look for."""
_KEY = re.compile(r"llmcxr_([0-9a-f]{12})_[0-9a-f]{64}", re.ASCII)
_Stamp = tuple[int, int, int]


class Key(BaseModel):
    """What is kept of a key; the key itself is not.

    Attributes:
        id: public part of the key.
        name: whose it is, for the operator.
        sha256: of the whole key, hexadecimal.
        scopes: what its owner may do.
        created: when.
        expires: from when on it is refused, if ever.
        revoked: since when it is refused, if it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None


class Keys(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()


def new_key(
    name: str, scopes: tuple[Scope, ...], *, expires: datetime | None = None
) -> tuple[str, Key]:
    """A key, and what is kept of it."""
    identifier = secrets.token_hex(6)
    text = f"{PREFIX}{identifier}_{secrets.token_hex(32)}"
    kept = Key(
        id=identifier,
        name=name,
        sha256=_digest(text),
        scopes=scopes,
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )
    return text, kept


def read_keys(path: Path) -> Keys:
    """The keys of a file; none where there is no file.

    Raises:
        AccessError: it cannot be used.
    """
    try:
        return Keys.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Keys()
    except (OSError, ValidationError):
        raise AccessError("The file of keys (LLMCXR_KEYS) cannot be used.") from None


class KeyRing:
    """Recognises keys; reads the file again whenever it has changed, so revoking works at once.

    Args:
        path: the file of keys.
        now: the time.

    Raises:
        AccessError: the file cannot be used.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._now = now
        self._stamp = self._look()
        self._keys = {key.id: key for key in read_keys(path).keys}

    def __len__(self) -> int:
        return len(self._keys)

    def recognise(self, text: str) -> Caller:
        """The owner of a key.

        Raises:
            Unauthenticated: it is malformed, unknown, revoked or expired.
        """
        found = _KEY.fullmatch(text)
        if found is None:
            raise refused(Cause.MALFORMED)
        self._refresh()
        key = self._keys.get(found[1])
        if key is None or not hmac.compare_digest(key.sha256, _digest(text)):
            raise refused(Cause.KEY_UNKNOWN)
        if key.revoked is not None:
            raise refused(Cause.KEY_REVOKED)
        if key.expires is not None and key.expires <= self._now():
            raise refused(Cause.KEY_EXPIRED)
        return Caller(f"key:{key.id}", frozenset(key.scopes))

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        try:
            self._keys = {key.id: key for key in read_keys(self._path).keys}
        except AccessError:
            # Better nobody than somebody whose key was just revoked.
            self._keys = {}
            log.error("the file of keys cannot be used; every key is refused")
        self._stamp = stamp

    def _look(self) -> _Stamp | None:
        try:
            seen = self._path.stat()
        except OSError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
