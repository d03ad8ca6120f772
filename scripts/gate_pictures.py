"""Gather pictures that are no chest radiographs, for `llmcxr-train gate`: OUT/{train,test}/KIND/.

    pip download scikit-image==0.22.0 matplotlib pydicom-data     (and unpack the wheels)
    scripts/gate_pictures.py OUT --packages DIR --dicom ../shared/data/dicom

Photographs come with scikit-learn, scikit-image and matplotlib, slices and radiographs of other
body parts with pydicom-data and the project's DICOM files. What is in `test` is never trained on,
and no object is in both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread

PHOTOGRAPHS = {
    "train": (
        "astronaut.png", "brick.png", "camera.png", "coffee.png", "grass.png", "gravel.png",
        "moon.png", "hubble_deep_field.jpg", "ihc.png", "cell.png", "color.png",
        "clock_motion.png", "logo.png", "microaneurysms.png", "horse.png", "phantom.png",
        "Minduka_Present_Blue_Pack.png",
    ),
    "test": (
        "china.jpg", "flower.jpg", "grace_hopper.jpg", "rocket.jpg", "chelsea.png",
        "motorcycle_left.png", "retina.jpg", "coins.png",
    ),
}  # fmt: skip
SLICES = {
    "train": (
        "CT_small.dcm", "explicit_VR-UN.dcm", "MR-SIEMENS-DICOM-WithOverlays.dcm", "MR_small.dcm",
        "emri_small.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm",
    ),
    "test": (
        "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm",
        "693_UNCI.dcm", "bad_sequence.dcm", "MR2_UNCI.dcm", "JPEG-LL.dcm", "US1_UNCI.dcm",
    ),
}  # fmt: skip
BODY_PARTS = {"train": ("RG3_JPLL.dcm",), "test": ("RG2_JPLL.dcm",)}


def main() -> None:
    """Gather."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, action="append", default=[])
    parser.add_argument("--dicom", type=Path, required=True)
    options = parser.parse_args()
    import sklearn

    roots = [*options.packages, options.dicom, Path(sklearn.__file__).parent / "datasets"]
    for kind, wanted in (
        ("photographs", PHOTOGRAPHS), ("slices", SLICES), ("body-parts", BODY_PARTS)
    ):  # fmt: skip
        for split, names in wanted.items():
            folder = options.out / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                found = next((p for root in roots for p in sorted(root.rglob(name))), None)
                if found is None:
                    print(f"missing: {split} {kind} {name}")
                    continue
                for number, grey in enumerate(_frames(found)):
                    Image.fromarray(grey).save(folder / f"{found.stem[:24]}-{number}.png")


def _frames(path: Path) -> Iterator[np.ndarray]:
    """8-bit grey pictures of a file: at most eight frames of a series."""
    if path.suffix != ".dcm":
        yield np.asarray(Image.open(path).convert("L"))
        return
    dataset = dcmread(path, force=True)
    pixels = dataset.pixel_array.astype(np.float32)
    if int(dataset.get("SamplesPerPixel", 1)) == 3:
        pixels = pixels.mean(axis=-1)
    for frame in (pixels if pixels.ndim == 3 else pixels[None])[:8]:
        low, high = np.percentile(frame, [0.5, 99.5])
        grey = np.clip((frame - low) / max(high - low, 1.0), 0, 1)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            grey = 1 - grey
        yield np.rint(grey * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
