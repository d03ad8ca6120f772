"""What `llmcxr-train gate` leaves in its folder, or a release carries, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llmcxr_models.checkpoint import MANIFEST, Checkpoint
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.gate import GATE_WEIGHTS, Gate, GateConfig
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.radiograph import Pipeline

GATE_JSON = "gate.json"


@dataclass(frozen=True)
class TrainedGate:
    """A gate with what it was trained for.

    Attributes:
        gate: the network, with geometry and thresholds.
        pipeline: how its training files became pictures.
        geometry: how these became squares.
    """

    gate: Gate
    pipeline: Pipeline
    geometry: Geometry

    @classmethod
    def load(cls, folder: Path) -> TrainedGate:
        """Read `gate.safetensors`, and `gate.json` or a release's `manifest.json`.

        Raises:
            InvalidCheckpoint: a file is missing, damaged, or does not fit the other.
        """
        if (folder / MANIFEST).is_file():
            return cls._of_release(folder)
        try:
            described = json.loads((folder / GATE_JSON).read_text(encoding="utf-8"))
            config = GateConfig.from_dict(described["gate"])
            pipeline = Pipeline(described["preprocessing"]["pipeline"])
            geometry = Geometry(described["preprocessing"]["geometry"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidCheckpoint(f"{GATE_JSON} is missing or damaged.") from error
        return cls(Gate.load(folder / GATE_WEIGHTS, config), pipeline, geometry)

    @classmethod
    def _of_release(cls, folder: Path) -> TrainedGate:
        released = Checkpoint.open(folder, verify=False)
        gate, seen = released.load_gate(), released.manifest.preprocessing
        if gate is None:
            raise InvalidCheckpoint("this release has no gate.")
        return cls(gate, seen.pipeline, seen.geometry)

    def check_preprocessing(self, preprocessing: Preprocessing) -> None:
        """Whether it saw pictures as the checkpoint makes them.

        Raises:
            InvalidCheckpoint: it did not.
        """
        if (self.pipeline, self.geometry) != (preprocessing.pipeline, preprocessing.geometry):
            raise InvalidCheckpoint("the gate was trained with another preprocessing.")
