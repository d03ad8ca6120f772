"""Token ids as they come -> characters as soon as they are whole, and sections as they fill. Pure.

What comes piece by piece is, put together, exactly what `TextTokenizer.decode` and `Report.parse`
make of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from llmcxr_models.report import SECTION

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
# The longest end of a text with which a section's name may begin; `SECTION` takes these spaces.
_MAY_BE_SECTION = re.compile(
    "(?:"
    + "|".join(
        "(?:".join(name) + r"(?:\s*" + ")?" * len(name) for name in ("findings", "impression")
    )
    + r")\Z",
    re.IGNORECASE | re.ASCII,
)

OnSection = Callable[[str, str], None]
"""Told a section's name and its next characters."""


class IncrementalText:
    """Decodes token by token; never gives a part of a character.

    A character may be several tokens (UTF-8 bytes), and how a token reads may depend on the one
    before it, so each step decodes again from the last whole character but one.

    Args:
        decode: token ids to text, as `TextTokenizer.decode`.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._token_ids: list[int] = []
        self._context = 0
        self._read = 0
        self._given = 0

    def feed(self, token_ids: Sequence[int]) -> str:
        """The characters that these token ids complete; may be empty."""
        self._token_ids += token_ids
        before = self._decode(self._token_ids[self._context : self._read])
        now = self._decode(self._token_ids[self._context :])
        # An unfinished character is decoded as U+FFFD; so is one that the model meant.
        if now.endswith(_UNKNOWN) or not now.startswith(before):
            return ""
        self._context, self._read = self._read, len(self._token_ids)
        self._given += len(now) - len(before)
        return now[len(before) :]

    def rest(self) -> str:
        """What `feed` still held back, now that nothing follows."""
        return self._decode(self._token_ids)[self._given :]


class IncrementalSections:
    """Characters of a report -> its sections' characters, as `Report.parse` splits them.

    What may become a section's name, and spaces that may be the last ones, are held back.
    """

    def __init__(self, on_section: OnSection) -> None:
        self._trimmed = {
            name: TrimmedText(partial(on_section, name)) for name in ("findings", "impression")
        }
        self._current = self._trimmed["findings"]
        self._held = ""

    def feed(self, text: str) -> None:
        """Take in the next characters."""
        self._held += text
        while match := SECTION.search(self._held):
            self._current.feed(self._held[: match.start()])
            self._current = self._trimmed[match[1].lower()]
            self._current.begin()
            self._held = self._held[match.end() :]
        doubtful = _MAY_BE_SECTION.search(self._held)
        sure = doubtful.start() if doubtful else len(self._held)
        self._current.feed(self._held[:sure])
        self._held = self._held[sure:]

    def finish(self) -> None:
        """Nothing follows."""
        self._current.feed(self._held)
        self._held = ""


class TrimmedText:
    """Characters without the spaces before the first and after the last of them.

    Args:
        on_text: told the next characters.
    """

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._spaces = ""
        self._begun = False
        self._any = False

    def feed(self, text: str) -> None:
        """Take in the next characters."""
        words = text if self._begun else text.lstrip()
        kept = words.rstrip()
        if kept:
            self._on_text(self._spaces + kept)
            self._spaces = ""
            self._begun = self._any = True
        if self._begun:
            self._spaces += words[len(kept) :]

    def begin(self) -> None:
        """Another piece follows; it is joined to the last one by one space."""
        self._spaces = " " if self._any else ""
        self._begun = False
