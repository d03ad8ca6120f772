"""The codebook as running means of the vectors assigned to it, with dead codes revived.

Exponential moving averages in place of a gradient (van den Oord et al., arXiv 1711.00937,
appendix A.1). A code that no vector chooses for long is moved onto a vector of the current
batch (Dhariwal et al., arXiv 2005.00341): without it most of a codebook never comes into use.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmcxr_models.vqgan import Quantized


class CodebookAverages:
    """Keeps `codebook` (codebook_size, codebook_dim) at the means of its assigned vectors.

    Args:
        codebook: updated in place, without gradient.
        decay: weight of the past at each step.
        revive_below: a code with a running count below this is dead.
    """

    def __init__(self, codebook: Tensor, *, decay: float = 0.99, revive_below: float = 0.1) -> None:
        codebook.requires_grad_(False)
        self.codebook = codebook
        self.decay = decay
        self.revive_below = revive_below
        self.restart()

    def restart(self) -> None:
        """Begin from the vectors that the codebook has now.

        Each code has the benefit of the doubt: some steps to be chosen in.
        """
        self.counts = torch.ones(self.codebook.shape[0])
        self.sums = self.codebook.detach().cpu().clone()

    @torch.no_grad()
    def update(self, quantized: Quantized, generator: torch.Generator) -> int:
        """Take in one batch, on the CPU; returns the number of codes revived."""
        size, dim = self.codebook.shape
        vectors = quantized.encoded.detach().float().permute(0, 2, 3, 1).reshape(-1, dim)
        codes = quantized.codes.reshape(-1)
        counts = torch.bincount(codes, minlength=size).float()
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        self.counts.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(sums, alpha=1 - self.decay)
        self.codebook.copy_(self.sums / self.counts.clamp_min(1e-5).unsqueeze(1))
        dead = torch.nonzero(self.counts < self.revive_below).flatten()
        if len(dead):
            chosen = torch.randint(len(vectors), (len(dead),), generator=generator)
            self.codebook[dead] = vectors[chosen].to(self.codebook)
            self.sums[dead] = vectors[chosen]
            self.counts[dead] = 1.0
        return len(dead)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs beside the codebook itself."""
        return {"counts": self.counts, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.counts.copy_(state["counts"])
        self.sums.copy_(state["sums"])
