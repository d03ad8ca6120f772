"""Files that end the process in which they are decoded."""

from __future__ import annotations

import base64
import zlib

from pydicom.encaps import encapsulate
from tests.pictures import dicom

JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
# A ramp of 48 x 64 values of 12 bits, written by `dcmcjpeg +ee +q 95 +bt` and deflated.
TWELVE_BITS = (
    "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZmBiREEQCQTCLAwg0hWFhZmFjZWNjYwZufkAGJ2NjYObg5OLhAAsni4"
    "uXhAnP8HGbh5GAwYHBgZBRn+H2EQA5oPNBsJ8PDxAsUlBBiYmFHEGbjdWg79v8XAAVJvz3C4N+oL2zYXAd0q5mgl"
    "DrG9jGsnsnDHNVw70cS63iE7xZHp+gLTTQqN2Rekbgo4bH3BmzPh8Wt80h0K6OZNkqnFJ43FOuf+tcS6BmKeR+FX"
    "Yl0DMe8knx3RroGYZ////00APzmMNA=="
)


def twelve_bit_codestream() -> bytes:
    """A sound JPEG of 12 bits, 48 rows and 64 columns."""
    return zlib.decompress(base64.b64decode(TWELVE_BITS))


def twelve_bit(codestream: bytes, **attributes: str) -> bytes:
    """A DICOM file around such a codestream."""
    return dicom(
        syntax=JPEG_EXTENDED,
        **{"SOPInstanceUID": "2.25.1", **attributes},
        Rows=48,
        Columns=64,
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        PixelData=encapsulate([codestream]),
    )


def aborts_gdcm() -> bytes:
    """One wrong byte, on which gdcm 3.2 calls `terminate`."""
    good = twelve_bit_codestream()
    return twelve_bit(good[:102] + bytes([23]) + good[103:])
