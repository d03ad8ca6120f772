"""DICOM bytes -> the few data elements that we read, as bounded work on hostile input.

pydicom finds the elements; values are taken from their bytes here, because its converters
guess ambiguous VRs, warn with the value in the text, and cost time for elements nobody needs.
Knows the encoding (PS3.5 and PS3.10), not what the attributes mean.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag

from llmcxr_models.errors import InvalidRadiograph, UnsupportedRadiograph

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

PIXEL_DATA = 0x7FE00010
_TRANSFER_SYNTAX = 0x00020010
_MAX_READS = 20_000
"""A radiograph's header takes some hundreds of reads; a bomb of empty elements takes millions."""
_MAX_VALUE = 1 << 20
"""Longest header value that is read. A LUT of 65536 entries of 16 bits takes 128 KiB."""


_Stop = Callable[[int], bool]


class _CountedReader(io.BytesIO):
    """Bytes that may be read only so many times, which bounds nesting and walking alike."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise InvalidRadiograph("The DICOM header has too many elements.", reason="header")
        return super().read(size)


@dataclass(frozen=True)
class Elements:
    """Data elements of one data set, by tag (group << 16 | element).

    Attributes:
        by_tag: as pydicom found them.
    """

    by_tag: dict[int, RawDataElement | DataElement]

    def __contains__(self, tag: int) -> bool:
        return bool(self.value(tag)) or self._is_sequence(tag)

    def value(self, tag: int) -> bytes:
        """The value's bytes, empty where the element is missing or empty."""
        element = self.by_tag.get(tag)
        value = getattr(element, "value", None)
        return bytes(value) if isinstance(value, bytes | bytearray) else b""

    def vr(self, tag: int) -> str:
        """The value representation as written, empty for implicit VR."""
        return getattr(self.by_tag.get(tag), "VR", None) or ""

    def texts(self, tag: int) -> list[str]:
        """Values of a string element (CS, UI, IS, DS), stripped; undecodable bytes replaced."""
        text = self.value(tag).decode("ascii", "replace")
        return [part.strip(" \0") for part in text.split("\\")] if text.strip(" \0") else []

    def text(self, tag: int) -> str:
        """First value of a string element, or the empty string."""
        return next(iter(self.texts(tag)), "")

    def decimals(self, tag: int) -> list[float]:
        """Finite numbers of a DS or IS element.

        Raises:
            InvalidRadiograph: a value is no finite number.
        """
        try:
            numbers = [float(text) for text in self.texts(tag) if text]
        except ValueError:
            numbers = [math.nan]
        if not all(math.isfinite(number) for number in numbers):
            raise InvalidRadiograph("A number in the DICOM header is malformed.", reason="header")
        return numbers

    def words(self, tag: int) -> NDArray[np.uint16]:
        """Values of a US, SS or OW element as unsigned 16-bit words."""
        value = self.value(tag)
        order = "<" if getattr(self.by_tag.get(tag), "is_little_endian", True) else ">"
        return np.frombuffer(value[: len(value) // 2 * 2], dtype=f"{order}u2").astype(np.uint16)

    def integer(self, tag: int, default: int | None = None) -> int:
        """First value of a US element.

        Raises:
            InvalidRadiograph: it is missing and there is no default.
        """
        words = self.words(tag)
        if words.size:
            return int(words[0])
        if default is None:
            raise InvalidRadiograph("The DICOM header is not complete.", reason="header")
        return default

    def items(self, tag: int) -> list[Elements]:
        """Items of a sequence; an empty list where it is missing."""
        element = self.by_tag.get(tag)
        if isinstance(element, RawDataElement):
            element = convert_raw_data_element(element._replace(VR="SQ"))
        if element is None or not element.value:
            return []
        datasets = cast(Iterable[Dataset], element.value)
        # `get_item` and not `[]`, which would convert the values.
        return [
            Elements({int(tag): item.get_item(tag) for tag in list(item.keys())})
            for item in datasets
        ]

    def _is_sequence(self, tag: int) -> bool:
        element = self.by_tag.get(tag)
        return isinstance(element, DataElement) and element.VR == "SQ" and bool(element.value)


class ElementReader:
    """Walks one file: `header` first, then, once it has been judged, `pixel_data`.

    Args:
        data: the file, with or without preamble and file meta information.

    Attributes:
        transfer_syntax: UID, told by the meta information, else by the first element.
    """

    def __init__(self, data: bytes) -> None:
        self._file = _CountedReader(data)
        if data[128:132] == b"DICM":
            self._file.seek(132)
        # PS3.10: the file meta information is always explicit VR little endian.
        meta = self._read(False, True, {_TRANSFER_SYNTAX}, lambda tag: tag >> 16 != 2)
        position = self._file.tell()
        self.transfer_syntax = meta.text(_TRANSFER_SYNTAX) or _guess_syntax(data, position)
        self.little_endian = self.transfer_syntax != EXPLICIT_BIG
        # By the first element and not by the meta information: files that contradict theirs
        # are seen in the wild, and pydicom reads them the same way.
        self._implicit = self.little_endian and _guess_syntax(data, position) == IMPLICIT_LITTLE

    def header(self, tags: set[int]) -> Elements:
        """The elements `tags`, as far as they stand before the pixels.

        Raises:
            InvalidRadiograph: too many elements, or a value that is cut off.
            UnsupportedRadiograph: a value of an absurd length.
        """
        return self._read(self._implicit, self.little_endian, tags, lambda tag: tag >= PIXEL_DATA)

    def pixel_data(self) -> Elements:
        """The Pixel Data element, right after `header`; empty where there is none.

        Raises:
            InvalidRadiograph: the file ends before the pixels do.
        """
        tags = {PIXEL_DATA}
        return self._read(self._implicit, self.little_endian, tags, lambda tag: tag > PIXEL_DATA)

    def _read(self, implicit: bool, little: bool, tags: set[int], stop: _Stop) -> Elements:
        def stop_when(tag: BaseTag, _vr: str | None, length: int) -> bool:
            if stop(tag):
                return True
            if tag in tags and tag != PIXEL_DATA and _MAX_VALUE < length < 0xFFFFFFFF:
                raise UnsupportedRadiograph("A DICOM header value is too long.", reason="header")
            return False

        found: dict[int, RawDataElement | DataElement] = {}
        wanted: list[BaseTag | int] = sorted(tags)
        source = cast(BinaryIO, self._file)
        for element in data_element_generator(
            source, implicit, little, stop_when, specific_tags=wanted
        ):
            if isinstance(element, RawDataElement) and _is_cut_off(element):
                raise InvalidRadiograph("The DICOM file is cut off.", reason="truncated")
            found[int(element.tag)] = element
        return Elements(found)


def _is_cut_off(element: RawDataElement) -> bool:
    return element.length != 0xFFFFFFFF and len(element.value or b"") < element.length


def _guess_syntax(data: bytes, position: int) -> str:
    """What the first element after the meta information looks like: VR letters, or a length."""
    vr = data[position + 4 : position + 6]
    return EXPLICIT_LITTLE if vr.isalpha() and vr.isupper() else IMPLICIT_LITTLE
