"""Fuzz the decoders with atheris for a bounded time; what breaks them is kept in tests/hostile.

Needs `pip install "llmcxr[fuzz]"`. The target is `read_radiograph`, with pydicom and our own code
instrumented: whatever it raises that is no InvalidInput, or a file on which the process ends, is
written to tests/hostile/crashers and from then on sent by the tests. Starts from sound files and
from two of each hostile class.

    python scripts/fuzz_decoder.py --seconds 300
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRASHERS = ROOT / "tests" / "hostile" / "crashers"
_MAX_BYTES = 20_000
_SLOW_SECONDS = 20
_MEMORY_MIB = 3000


def main() -> int:
    """Start the fuzzer in a process of its own, which may be lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="where interesting files are kept")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.run:
        return _fuzz(rest)
    with tempfile.TemporaryDirectory() as name:
        corpus = arguments.corpus or Path(name)
        corpus.mkdir(exist_ok=True)
        _seed(corpus, arguments.seed)
        command = [
            sys.executable, __file__, "--run", str(corpus),
            f"-max_total_time={arguments.seconds}", f"-max_len={_MAX_BYTES}",
            f"-timeout={_SLOW_SECONDS}", f"-rss_limit_mb={_MEMORY_MIB}",
            f"-artifact_prefix={CRASHERS}/", f"-seed={arguments.seed}", "-print_final_stats=1",
        ]  # fmt: skip
        return subprocess.run(command, cwd=ROOT, check=False).returncode


def _seed(corpus: Path, seed: int) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.hostile.case import JPEG_2000, JPEG_LS, RLE, Dice, compressed
    from tests.hostile.generator import FILES
    from tests.hostile.killers import twelve_bit, twelve_bit_codestream
    from tests.pictures import dicom, jpeg, png

    files = [dicom(), png(), jpeg(), twelve_bit(twelve_bit_codestream())]
    files += [compressed(syntax, seed) for syntax in (RLE, JPEG_LS, JPEG_2000)]
    files += [make(Dice(f"{seed}/{i}")) for make in FILES.values() for i in range(2)]
    for number, data in enumerate(files):
        if len(data) <= _MAX_BYTES:
            (corpus / f"seed-{number:03}").write_bytes(data)


def _fuzz(arguments: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["llmcxr_models", "pydicom"]):
        from llmcxr_models.errors import InvalidInput
        from llmcxr_models.radiograph_file import read_radiograph

    def target(data: bytes) -> None:
        try:
            read_radiograph(data)
        except InvalidInput:
            return

    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
