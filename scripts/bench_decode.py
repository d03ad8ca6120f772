"""Decode and preprocess beside pydicom alone, on the same files, one core, in one run.

Four ways for each file, in turn and in changing order, so that whatever else the machine does
falls on all of them alike:

    pydicom    dcmread and pixel_array: the stored values, nothing more
    usual      the same, then pydicom's modality and VOI LUT, min-max, and Pillow to 256 x 256
    ours       read_radiograph and to_pixels: gates, display pipeline, 256 x 256 for the model
    pool       the same through a decode worker, a fresh process for each file

The first three are compared by processor time, the pool by wall time. Prints a table; the section
`decode` of the benchmarks measures the same.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from rich.console import Console
from rich.table import Table

from llmcxr_models.preprocess import Preprocessing, to_pixels
from llmcxr_models.quiet import quiet_libraries
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.radiograph_file import read_radiograph
from llmcxr_service.decode_pool import FILES_PER_WORKER, DecodePool
from llmcxr_service.decode_template import WorkerOptions

ROOT = Path(__file__).resolve().parent.parent
PREPROCESSING = Preprocessing()
SIDES = (2048, 2500)
"""Rows and columns of the files that are made here; about those of a flat-panel detector."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, help="a JSON file of the figures")
    arguments = parser.parse_args()
    results = measure_all(arguments.repeats)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    _print(results)


def measure_all(repeats: int) -> dict[str, Any]:
    """All files in all ways."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    try:
        files = {name: asyncio.run(_measure(data, repeats)) for name, data in _files()}
    finally:
        torch.set_num_threads(threads)
    return {
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine()},
        "load_average_before_and_after": [round(load, 2), round(os.getloadavg()[0], 2)],
        "repeats": repeats,
        "files": files,
        "ratio_ours_to_pydicom": _overall(files, "ratio_ours_to_pydicom"),
        "ratio_ours_to_usual": _overall(files, "ratio_ours_to_usual"),
        "ratio_pool_to_ours_wall": _overall(files, "ratio_pool_to_ours_wall"),
        "files_per_second_and_core": _overall(files, "files_per_second_and_core"),
    }


def _files() -> list[tuple[str, bytes]]:
    made = [("sample, JPEG-LS 1024 x 1024", (ROOT / "samples/example-patient.dcm").read_bytes())]
    syntaxes = {"native": ExplicitVRLittleEndian, "RLE": RLELossless, "JPEG-LS": JPEGLSLossless,
                "JPEG 2000": JPEG2000Lossless}  # fmt: skip
    for name, syntax in syntaxes.items():
        made.append((f"made, {name} {SIDES[0]} x {SIDES[1]}, 12 bits", _make(syntax)))
    return made


def _make(syntax: UID) -> bytes:
    """A smooth picture with the noise of a detector."""
    dice = np.random.default_rng(1)
    coarse = Image.fromarray(dice.integers(300, 3700, (9, 9)).astype(np.float32))
    smooth = np.asarray(coarse.resize(SIDES[::-1], Image.Resampling.BICUBIC))
    stored = np.clip(smooth + dice.normal(0, 12, SIDES), 0, 4095).astype(np.uint16)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("2.25.1")
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax.is_compressed:
        options: dict[str, Any] = {"encoding_plugin": "pydicom"} if syntax == RLELossless else {}
        dataset.compress(syntax, generate_instance_uid=False, **options)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _pydicom(data: bytes) -> None:
    _ = dcmread(io.BytesIO(data)).pixel_array


def _usual(data: bytes) -> None:
    dataset = dcmread(io.BytesIO(data))
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    values = values.astype(np.float32)
    values = (values - values.min()) / max(float(np.ptp(values)), 1.0)
    Image.fromarray(values).resize((256, 256), Image.Resampling.LANCZOS)


def _ours(data: bytes) -> None:
    to_pixels(read_radiograph(data), PREPROCESSING)


async def _measure(data: bytes, repeats: int) -> dict[str, Any]:
    ways: dict[str, Callable[[bytes], None]] = {
        "pydicom": _pydicom, "usual": _usual, "ours": _ours,
    }  # fmt: skip
    options = WorkerOptions(Pipeline.DISPLAY, 2048, 60.0, FILES_PER_WORKER)
    pool = DecodePool(options, workers=1, on_restart=lambda _: None)
    pool.start()
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in (*ways, "pool")}
    try:
        for repeat in range(repeats + 1):
            names = list(wall)
            for name in names[repeat % 4 :] + names[: repeat % 4]:
                started, processor = time.perf_counter(), time.process_time()
                if name == "pool":
                    to_pixels(await pool.radiograph(data), PREPROCESSING)
                else:
                    with quiet_libraries():
                        ways[name](data)
                if repeat:  # the first round fills caches
                    wall[name].append(time.perf_counter() - started)
                    if name in cpu:
                        cpu[name].append(time.process_time() - processor)
    finally:
        await pool.stop()
    return {
        "bytes": len(data),
        "cpu_ms": {name: _ms(seconds) for name, seconds in cpu.items()},
        "wall_ms": {name: _ms(seconds) for name, seconds in wall.items()},
        "ratio_ours_to_pydicom": _ratio(cpu["ours"], cpu["pydicom"]),
        "ratio_ours_to_usual": _ratio(cpu["ours"], cpu["usual"]),
        "ratio_pool_to_ours_wall": _ratio(wall["pool"], wall["ours"]),
        "files_per_second_and_core": round(1.0 / statistics.median(cpu["ours"]), 1),
    }


def _ms(seconds: list[float]) -> float:
    return round(1000.0 * statistics.median(seconds), 2)


def _ratio(first: list[float], second: list[float]) -> float:
    """Median of the ratios within each round."""
    return round(statistics.median(a / b for a, b in zip(first, second, strict=True)), 3)


def _overall(files: dict[str, Any], name: str) -> float:
    return round(statistics.geometric_mean(file[name] for file in files.values()), 3)


def _print(results: dict[str, Any]) -> None:
    table = Table("File", "pydicom", "usual", "ours", "ours/pydicom", "ours/usual", "pool/ours")
    for name, file in results["files"].items():
        times = [str(file["cpu_ms"][way]) for way in ("pydicom", "usual", "ours")]
        ratios = [str(file[key]) for key in file if key.startswith("ratio")]
        table.add_row(name, *times, *ratios)
    Console().print(table)
    Console().print_json(json.dumps({k: v for k, v in results.items() if k != "files"}))


if __name__ == "__main__":
    main()
