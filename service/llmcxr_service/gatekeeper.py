"""What a decoded radiograph must be before the model reads it: the options of a hospital, and the
checkpoint's gate on pixels. What the header alone forbids was refused while decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from llmcxr_models.errors import UnsupportedRadiograph
from llmcxr_models.gate import Gate
from llmcxr_models.radiograph import MediaType, Radiograph

LATERAL_BY_HEADER = (
    "The header says that this is a lateral view; the model has seen frontal views only."
)
_VAGUE_MODALITIES = {"", "SC", "OT"}
_LATERAL = "lateral"


class PixelGate(StrEnum):
    """What is done about pictures that certainly are no chest radiograph, by their pixels.

    refuse  answered with 422
    warn    answered, with a warning
    off     not looked at
    """

    REFUSE = "refuse"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True)
class Gatekeeper:
    """Refuses, or finds doubts.

    Attributes:
        views: which the model was trained on.
        gate: looks at pixels; None where the checkpoint has none.
        pixel_gate: what its refusals do.
        accept_secondary_capture: whether DICOM objects of modality SC, OT or none are read.
        refuse_laterals: whether a lateral by its header is refused, not only warned of.
    """

    views: tuple[str, ...]
    gate: Gate | None = None
    pixel_gate: PixelGate = PixelGate.REFUSE
    accept_secondary_capture: bool = False
    refuse_laterals: bool = False

    @property
    def looks_at_pixels(self) -> bool:
        """Whether `check_pixels` does anything."""
        return self.gate is not None and self.pixel_gate is not PixelGate.OFF

    def check_header(self, radiograph: Radiograph) -> tuple[str, ...]:
        """Doubts, as sentences.

        Raises:
            UnsupportedRadiograph: `secondary-capture` or `view-position`.
        """
        vague = radiograph.modality.upper() in _VAGUE_MODALITIES
        if radiograph.media_type is MediaType.DICOM and vague and not self.accept_secondary_capture:
            raise UnsupportedRadiograph(
                "The header does not say that this is a radiograph (CR or DX).",
                reason="secondary-capture",
            )
        if not radiograph.is_lateral or _LATERAL in self.views:
            return ()
        if self.refuse_laterals:
            raise UnsupportedRadiograph(
                "The header says that this is a lateral view.", reason="view-position"
            )
        return (LATERAL_BY_HEADER,)

    def check_pixels(self, radiograph: Radiograph, pixels: Tensor) -> tuple[str, ...]:
        """Doubts about model pixels (C, S, S); takes milliseconds of a processor.

        Raises:
            UnsupportedRadiograph: `no-chest-radiograph`, `inverted` or `turned`.
        """
        if self.gate is None or not self.looks_at_pixels:
            return ()
        verdict = self.gate.examine(pixels)
        if self.pixel_gate is PixelGate.REFUSE:
            verdict.require_chest()
        # A header that says lateral has been listened to already.
        fine = _LATERAL in self.views or radiograph.is_lateral
        return verdict.warnings(lateral_is_fine=fine)
