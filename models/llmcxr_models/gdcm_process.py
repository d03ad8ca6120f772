"""gdcm for one JPEG frame, and a process of its own for it: codestream on stdin, samples on stdout.

gdcm ends the whole process (`terminate called after throwing ...`) on some damaged JPEGs: one
wrong byte in one file would stop whoever called it. So only a process that is expendable calls
`decode`; everybody else runs this file as a child, which holds no secrets.
Arguments: rows, columns, bits a sample, transfer syntax UID.
"""

from __future__ import annotations

import resource
import sys

_MEMORY_BYTES = 2 << 30
_CPU_SECONDS = 60


def main(rows: int, columns: int, precision: int, transfer_syntax: str) -> None:
    """Decode one frame; ends with another status than 0 where that is not possible."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    frame = sys.stdin.buffer.read()
    sys.stdout.buffer.write(decode(frame, rows, columns, precision, transfer_syntax))


def decode(frame: bytes, rows: int, columns: int, precision: int, transfer_syntax: str) -> bytes:
    """Samples of one grey frame, 1 or 2 bytes each, little endian. May end the process."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(transfer_syntax)
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    allocated = 8 if precision <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, precision, precision - 1, 0))
    # SWIG hands char* over as text; the bytes are in it by surrogates.
    samples: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")
    return samples


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
