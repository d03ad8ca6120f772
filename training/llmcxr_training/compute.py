"""How much a run computes: processed tokens, and floating-point operations by arithmetic.

Runs are compared at equal compute, so a run may be given a budget in place of a number of steps.
Examples depend on the seed and their number only: what a run will see can be counted beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from llmcxr_training.instructions import Example, Examples
from llmcxr_training.language_model import ImageTextModel

Unit = Literal["tokens", "flops"]
Cost = Callable[[Example], float]


class Budget(BaseModel):
    """How much a run may compute; it takes the whole number of steps that comes nearest.

    Attributes:
        unit: `tokens` of prompts and answers, padding left out; or `flops`, see `Shape`.
        amount: of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Unit = "tokens"
    amount: float = Field(gt=0)


@dataclass(frozen=True)
class Shape:
    """What the arithmetic of a training step depends on.

    A weight of a matrix costs 2 operations a token forward, 2 for the gradient of what came in,
    and 2 for its own gradient where it is trained (Kaplan et al., arXiv 2001.08361). Attention is
    causal: 2 T^2 d a layer forward, three times that with the backward pass. Logits are computed
    only where there is a loss. What is recomputed, normalised or padded is left out.

    Attributes:
        layers: of the transformer.
        width: d.
        layer_weights: in the matrices of all layers, adapters left out.
        adapter_weights: in adapters.
        text_rows: of the text head.
        codes: of the image head.
        is_whole: whether every weight is trained.
    """

    layers: int
    width: int
    layer_weights: int
    adapter_weights: int
    text_rows: int
    codes: int
    is_whole: bool

    @classmethod
    def of(cls, model: ImageTextModel) -> Shape:
        """The shape of a model in training."""
        matrices = [(n, p) for n, p in model.backbone.named_parameters() if p.ndim == 2]
        layers = {n.split("layers.")[1].split(".")[0] for n, _ in matrices if "layers." in n}
        in_layers = [(n, p) for n, p in matrices if "layers." in n]
        return cls(
            layers=len(layers),
            width=model.image_rows.shape[1],
            layer_weights=sum(p.numel() for n, p in in_layers if "lora_" not in n),
            adapter_weights=sum(p.numel() for n, p in in_layers if "lora_" in n),
            text_rows=len(model.text_rows),
            codes=len(model.image_rows),
            is_whole=model.lora is None,
        )

    def flops(self, example: Example) -> float:
        """Operations of a training step's share that is this sequence."""
        targets = [w > 0 for w in example.weights[1:]]
        image = sum(
            t and i >= self.text_rows for t, i in zip(targets, example.token_ids[1:], strict=True)
        )
        text = sum(targets) - image
        length, passes = len(example.token_ids), 6 if self.is_whole else 4
        matrices = length * (passes * self.layer_weights + 6 * self.adapter_weights)
        attention = 6 * length**2 * self.width * self.layers
        heads = passes * text * self.width * self.text_rows + 6 * image * self.width * self.codes
        return float(matrices + attention + heads)


@dataclass(frozen=True)
class Spent:
    """What a number of steps computes.

    Attributes:
        steps: of the optimiser.
        sequences: in them.
        tokens: in those, without padding.
        flops: by the arithmetic of `Shape`.
    """

    steps: int
    sequences: int
    tokens: int
    flops: float


def spend(budget: Budget, examples: Examples, shape: Shape, *, seed: int, batch_size: int) -> Spent:
    """The number of steps, at least one, whose compute is nearest to `budget`."""
    spent = Spent(0, 0, 0, 0.0)
    while True:
        numbers = range(spent.sequences, spent.sequences + batch_size)
        batch = [examples.draw(seed, number) for number in numbers]
        after = _added(spent, batch, shape)
        middle = (_amount(spent, budget.unit) + _amount(after, budget.unit)) / 2
        if spent.steps and middle > budget.amount:
            return spent
        spent = after


def _added(spent: Spent, batch: Sequence[Example], shape: Shape) -> Spent:
    return Spent(
        spent.steps + 1,
        spent.sequences + len(batch),
        spent.tokens + sum(len(example.token_ids) for example in batch),
        spent.flops + sum(shape.flops(example) for example in batch),
    )


def _amount(spent: Spent, unit: Unit) -> float:
    return spent.flops if unit == "flops" else float(spent.tokens)
