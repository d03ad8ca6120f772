"""Base weights + what was trained -> the weights that vLLM serves; or all that was trained.

The products of bfloat16 adapter matrices are summed in float64, where they are exact for all
practical purposes, and rounded once to bfloat16: the merged file is the same, bit for bit, on
every processor, so its digest can be published (docs/decisions/0004).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.run_state import save_weights

DELTA = "delta.safetensors"


class DeltaError(Exception):
    """A delta does not fit its base model."""


@dataclass(frozen=True)
class Delta:
    """What training changed.

    Attributes:
        tensors: `image_rows`, `image_head` (codebook_size, width); and for each adapted layer
            `<layer>.lora_A` (rank, in), `<layer>.lora_B` (out, rank). All bfloat16.
        scaling: factor of every adapter product.
    """

    tensors: Mapping[str, Tensor]
    scaling: float

    @classmethod
    def of(cls, model: ImageTextModel) -> Delta:
        """The delta of a model trained with adapters.

        Raises:
            DeltaError: it was trained without.
        """
        if model.lora is None:
            raise DeltaError("a fully fine-tuned model has no small delta")
        tensors: dict[str, Tensor] = {
            "image_rows": model.image_rows,
            "image_head": model.image_head,
        }
        for name, (a, b) in model.adapters().items():
            tensors[f"{name}.lora_A"], tensors[f"{name}.lora_B"] = a, b
        stored = {n: t.detach().cpu().to(torch.bfloat16).contiguous() for n, t in tensors.items()}
        return cls(stored, model.lora.scaling)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_weights(path, dict(self.tensors), {"scaling": repr(self.scaling)})

    @classmethod
    def load(cls, path: Path) -> Delta:
        """Read what `save` wrote.

        Raises:
            DeltaError: it is missing, damaged or something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return cls(tensors, float((file.metadata() or {})["scaling"]))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DeltaError(f"{path.name} is no delta, or is damaged") from error

    def trained_state(self, model: ImageTextModel) -> dict[str, Tensor]:
        """The weights by the names that `model.load_trained_state` takes.

        Raises:
            DeltaError: `model` has no adapters, or scales them otherwise.
        """
        if model.lora is None or model.lora.scaling != self.scaling:
            raise DeltaError("the delta is of other adapters")
        return {
            f"backbone.{layer}.lora_{side}.default.weight" if side else name: tensor
            for name, tensor in self.tensors.items()
            for layer, _, side in [name.partition(".lora_")]
        }


def merge(model: PreTrainedModel, delta: Delta, image_offset: int) -> dict[str, Tensor]:
    """Weights by the names of `model`'s own state dict, bfloat16.

    Args:
        model: the base model, not extended, float32.
        delta: of a model grown from it.
        image_offset: rows kept of the base embeddings.

    Raises:
        DeltaError: the delta names a layer that the model does not have, or another shape.
    """
    prefix = f"{model.base_model_prefix}."
    base = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    layers = {n.removesuffix(".lora_A") for n in delta.tensors if n.endswith(".lora_A")}
    unknown = [layer for layer in layers if f"{prefix}{layer}.weight" not in base]
    if unknown:
        raise DeltaError(f"the base model has no layer {unknown[0]}")
    merged = {name: tensor.to(torch.bfloat16) for name, tensor in base.items()}
    for layer in sorted(layers):
        name = f"{prefix}{layer}.weight"
        a, b = (delta.tensors[f"{layer}.lora_{side}"].double() for side in "AB")
        if (b.shape[0], a.shape[1]) != tuple(base[name].shape):
            raise DeltaError(f"the delta of {layer} has another shape than the base model's")
        merged[name] = (base[name].double() + delta.scaling * (b @ a)).to(torch.bfloat16)
    embedding, head = embedding_names(model)
    text = merged[embedding][:image_offset]
    text_head = merged.get(head, merged[embedding])[:image_offset]
    merged[embedding] = torch.cat([text, delta.tensors["image_rows"]])
    merged[head] = torch.cat([text_head, delta.tensors["image_head"]])
    return {name: tensor.contiguous() for name, tensor in sorted(merged.items())}


def whole_weights(base: PreTrainedModel, model: ImageTextModel) -> dict[str, Tensor]:
    """Weights of a fully fine-tuned `model` by the names of `base`'s state dict, bfloat16.

    Args:
        base: what `model` was grown from; its names are taken, its values are not.
        model: trained without adapters.
    """
    embedding, head = embedding_names(base)
    weights = {
        f"{base.base_model_prefix}.{name}": tensor
        for name, tensor in model.backbone.state_dict().items()
    }
    text_head = model.text_rows if model.text_head is None else model.text_head
    weights[embedding] = torch.cat([model.text_rows, model.image_rows])
    weights[head] = torch.cat([text_head, model.image_head])
    return {n: t.detach().to(torch.bfloat16).contiguous() for n, t in sorted(weights.items())}


def embedding_names(model: PreTrainedModel) -> tuple[str, str]:
    """State-dict names of the input and the output embedding."""
    modules = {id(module): name for name, module in model.named_modules()}
    names = [
        f"{modules[id(module)]}.weight"
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
    ]
    return names[0], names[1]
