"""A logits processor for vLLM: image tokens lean towards the findings that a request asks for.

vLLM imports it by name (`--logits-processors`) and finds the tables inside the directory of the
model that it serves. A request names how much it wants each finding, and how strongly:

    "vllm_xargs": {"finding_weights": [1.0, -0.2, 0.0], "guidance_strength": 0.5}

With `finding_tilt` and `guidance_request` this module is all that vLLM needs of us: the three can
be laid beside an installation of vLLM. Nothing here imports it: the service does without vLLM.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import (
    BatchUpdate,
    LogitsProcessor,
    MoveDirectionality,
)

from llmcxr_models.finding_tilt import LARGEST, TABLES, FindingTilt
from llmcxr_models.guidance_request import read_request

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class FindingGuidance(LogitsProcessor):
    """Adds to each image token's logits what speaks for a request's findings in its place.

    The place of the next token is the number of tokens that were drawn before it, so the answer
    has to be an image from its first token on.
    """

    def __init__(
        self,
        vllm_config: VllmConfig,
        device: torch.device,
        is_pin_memory: bool,  # noqa: ARG002  vLLM gives it
    ) -> None:
        self._tilt, self._offset = FindingTilt.load(Path(vllm_config.model_config.model) / TABLES)
        # (T, findings, codes): a place's tables lie together.
        by_place = np.ascontiguousarray(self._tilt.tables.transpose(1, 0, 2))
        self._tables = torch.from_numpy(by_place).to(device)
        self._asked: dict[int, tuple[Tensor, list[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a request that asks for no guidance that there could be.

        Raises:
            ValueError: which vLLM answers with 400.
        """
        read_request(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        """Greedy drawing is guided, too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow which request is in which row."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._asked.pop(row, None)
        for row, parameters, _, output_ids in batch_update.added:
            self._asked.pop(row, None)
            scaled = self._scaled(parameters)
            if scaled is not None:
                # A reference: it grows as tokens are drawn.
                self._asked[row] = (scaled, output_ids)
        for one, other, direction in batch_update.moved:
            moved, replaced = self._asked.pop(one, None), self._asked.pop(other, None)
            if moved is not None:
                self._asked[other] = moved
            if replaced is not None and direction is MoveDirectionality.SWAP:
                self._asked[one] = replaced

    def apply(self, logits: Tensor) -> Tensor:
        """(rows, vocabulary) logits, changed in place."""
        length = len(self._tables)
        now = [
            (row, len(output_ids), scaled)
            for row, (scaled, output_ids) in self._asked.items()
            if len(output_ids) < length
        ]
        if not now:
            return logits
        rows = torch.tensor([row for row, _, _ in now], device=logits.device)
        places = torch.tensor([place for _, place, _ in now], device=logits.device)
        scaled = torch.stack([scaled for _, _, scaled in now])
        tilts = torch.bmm(scaled.unsqueeze(1), self._tables[places]).squeeze(1)
        image = slice(self._offset, self._offset + self._tables.shape[-1])
        logits[rows, image] += tilts.clamp(-LARGEST, LARGEST).to(logits.dtype)
        return logits

    def _scaled(self, parameters: SamplingParams) -> Tensor | None:
        weights, strength = read_request(parameters.extra_args)
        if weights is None or not strength:
            return None
        if len(weights) != len(self._tilt.findings):
            # It was taken, so it is drawn; the gateway sends as many as its checkpoint has.
            return None
        scaled = self._tilt.scaled(np.array([weights]), strength)[0]
        return torch.from_numpy(scaled).to(self._tables.device)
