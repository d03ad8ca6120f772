"""The language model in training: frozen or trained text weights, and image-token rows of its own.

Three differences from a stock causal language model:

* image tokens have output rows of their own, also where the text rows are tied;
* logits are computed only where there is a loss;
* an image token is predicted among image tokens, a text token among text tokens. That is the
  distribution which the serving constraint samples from (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from llmcxr_models.vocabulary import Vocabulary
from llmcxr_training import blocked_attention
from llmcxr_training.data import DataError
from llmcxr_training.extend_vocabulary import embedding_weight
from llmcxr_training.merged_adapters import MergedLinear


class Lora(BaseModel):
    """Low-rank adapters on every linear layer (Hu et al., arXiv 2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = 32
    alpha: int = 64

    @property
    def scaling(self) -> float:
        """Factor of the product of the two adapter matrices."""
        return self.alpha / self.rank


class Losses(NamedTuple):
    """Weighted sums of cross-entropies (nats) and the sums of their weights.

    Sums and not means: only the caller knows the whole batch over all processes. The anchor's
    is of divergences from the base model.
    """

    image_sum: Tensor
    image_weight: Tensor
    text_sum: Tensor
    text_weight: Tensor
    anchor_sum: Tensor


class ImageTextModel(nn.Module):
    """A causal language model whose vocabulary has image tokens.

    Args:
        model: with its embeddings already extended.
        vocabulary: where the image tokens are.
        lora: adapters; None trains every weight.
        dtype: of the frozen weights; trained weights are float32.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: Vocabulary,
        lora: Lora | None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.lora = lora
        embedding = embedding_weight(model.get_input_embeddings()).detach()
        head = embedding_weight(model.get_output_embeddings()).detach()
        tied = embedding.data_ptr() == head.data_ptr()
        images, texts = vocabulary.image_token_ids, vocabulary.image_offset
        train_text = lora is None
        storage = torch.float32 if train_text else dtype
        self.image_rows = nn.Parameter(embedding[images.start : images.stop].float().clone())
        self.text_rows = nn.Parameter(embedding[:texts].to(storage), requires_grad=train_text)
        self.text_head: nn.Parameter | None = None
        if not tied:
            self.text_head = nn.Parameter(head[:texts].to(storage), requires_grad=train_text)
        # Zeros: at first every code is as likely as any other. Rows fit for input would make
        # the first predictions confidently wrong (18 nats in place of ln 1024 = 6.9).
        self.image_head = nn.Parameter(torch.zeros_like(self.image_rows))
        # The rows live here; the backbone is only called with embedded inputs.
        model.set_input_embeddings(nn.Embedding(1, 1).requires_grad_(False))
        self.backbone: nn.Module = model.base_model
        model.config._attn_implementation = blocked_attention.NAME
        # FSDP shards by these layers.
        self._no_split_modules = list(getattr(model, "_no_split_modules", None) or ())
        if lora is not None:
            self.backbone.requires_grad_(False).to(storage)
            self._add_adapters(lora)

    def forward(
        self,
        token_ids: Tensor,
        weights: Tensor,
        branches: Tensor | None = None,
        anchored: Tensor | None = None,
    ) -> Losses:
        """Loss of predicting each token from those before it.

        Args:
            token_ids: (B, T) int64, padded on the right with any id.
            weights: (B, T), the loss weight of each token as a target; 0 for prompt and padding.
            branches: (B, T) int64, see `Example`; None for none. The first token of a branch is
                no target.
            anchored: (B, T) bool, the text tokens of sequences without branches, each of whose
                predictions is compared with the base model's; None for none. Needs adapters.
        """
        hidden = self.hidden_states(token_ids, branches)[:, :-1]
        anchor = token_ids.new_zeros((), dtype=torch.float32)
        if anchored is not None:
            base = self._base_logits(token_ids, anchored)
            anchor = self._divergence(hidden[anchored[:, 1:]], base)
        targets, weights = token_ids[:, 1:], weights[:, 1:]
        is_image = targets >= self.vocabulary.image_offset
        image = self._cross_entropy(hidden, targets, weights, is_image, image=True)
        text = self._cross_entropy(hidden, targets, weights, ~is_image, image=False)
        return Losses(*image, *text, anchor)

    def hidden_states(self, token_ids: Tensor, branches: Tensor | None = None) -> Tensor:
        """Last hidden states (B, T, width). Causal, so padding on the right needs no mask."""
        embedded = self.embed(token_ids)
        settings: dict[str, Tensor] = {}
        if branches is not None:
            dtype = embedded.dtype
            if torch.is_autocast_enabled(embedded.device.type):
                dtype = torch.get_autocast_dtype(embedded.device.type)
            settings = {
                "attention_mask": branch_mask(branches, dtype),
                "position_ids": branch_positions(branches),
            }
        outputs = self.backbone(inputs_embeds=embedded, use_cache=False, **settings)
        hidden: Tensor = outputs.last_hidden_state
        return hidden

    def lower_states(self, token_ids: Tensor, layers: int, *, normalised: bool = True) -> Tensor:
        """States (B, T, width) behind the lowest `layers`, as they are or normalised as the last.

        Raises:
            DataError: the model has no more layers than that.
        """
        norm = None if normalised else nn.Identity()
        with self._only(self._lowest(layers), norm):
            return self.hidden_states(token_ids)

    def upper_states(self, states: Tensor, layers: int) -> Tensor:
        """Last hidden states (B, T, width) of what `lower_states` gave as they are."""
        self._lowest(layers)
        every = cast(nn.ModuleList, self.backbone.layers)
        with self._only(nn.ModuleList(list(every)[layers:])):
            outputs = self.backbone(inputs_embeds=states, use_cache=False)
        hidden: Tensor = outputs.last_hidden_state
        return hidden

    def lower_parameters(self, layers: int) -> list[nn.Parameter]:
        """What is trained of the lowest `layers`.

        Raises:
            DataError: the model has no more layers than that.
        """
        return [p for p in self._lowest(layers).parameters() if p.requires_grad]

    def upper_parameters(self, layers: int) -> list[nn.Parameter]:
        """What is trained of the layers above the lowest `layers`.

        Raises:
            DataError: the model has no more layers than that.
        """
        lower = {id(p) for p in self._lowest(layers).parameters()}
        every = cast(nn.ModuleList, self.backbone.layers)
        return [p for p in every.parameters() if p.requires_grad and id(p) not in lower]

    @property
    def layer_count(self) -> int:
        """Layers in all."""
        return len(cast(nn.ModuleList, self.backbone.layers))

    def embed(self, token_ids: Tensor) -> Tensor:
        """Embeddings (B, T, width) of text and image tokens."""
        offset = self.vocabulary.image_offset
        text = F.embedding(token_ids.clamp(max=offset - 1), self.text_rows)
        image_ids = (token_ids - offset).clamp(0, self.vocabulary.codebook_size - 1)
        image = F.embedding(image_ids, self.image_rows.to(text.dtype))
        return torch.where((token_ids >= offset).unsqueeze(-1), image, text)

    def text_logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., image_offset) over text tokens."""
        return F.linear(hidden, self.text_rows if self.text_head is None else self.text_head)

    def image_logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., codebook_size) over image tokens."""
        return F.linear(hidden, self.image_head.to(hidden.dtype))

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """As the base model; image tokens keep their trained rows."""
        layers = [module for module in self.backbone.modules() if isinstance(module, LoraLayer)]
        # Not peft's enable_adapters: that one also forgets which weights are trained.
        for layer in layers:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in layers:
                layer._disable_adapters = False

    def compile_layers(self) -> None:
        """Generate code for the layers (needs a C++ compiler, or Triton); once for all lengths."""
        for layer in cast(nn.ModuleList, self.backbone.layers):
            layer.compile(dynamic=True)

    def checkpoint_activations(self) -> None:
        """Compute each layer's activations again in the backward pass rather than keep them."""
        backbone = cast(PreTrainedModel, self.backbone)
        backbone.gradient_checkpointing_enable({"use_reentrant": False})

    def trained_state(self) -> dict[str, Tensor]:
        """The trained weights by name."""
        return {n: p.detach() for n, p in self.named_parameters() if p.requires_grad}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `trained_state`.

        Raises:
            DataError: names or shapes do not fit.
        """
        trained = {n: p for n, p in self.named_parameters() if p.requires_grad}
        # Compared and not left to copy_, which would broadcast adapters of rank 1.
        if {n: p.shape for n, p in trained.items()} != {n: t.shape for n, t in state.items()}:
            raise DataError("the saved state is of another model or of other adapters")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(state[name])

    def adapters(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Adapter matrices A (rank, in) and B (out, rank) by the name of their linear layer."""
        layers = [n for n, m in self.backbone.named_modules() if isinstance(m, LoraLayer)]
        weight = self.backbone.get_parameter
        return {
            layer: (
                weight(f"{layer}.lora_A.default.weight").detach(),
                weight(f"{layer}.lora_B.default.weight").detach(),
            )
            for layer in layers
        }

    @contextmanager
    def _only(self, layers: nn.ModuleList, norm: nn.Module | None = None) -> Iterator[None]:
        """The backbone with these of its layers, and with another last norm or its own."""
        backbone = cast(PreTrainedModel, self.backbone)
        every, own = cast(nn.ModuleList, backbone.layers), backbone.norm
        backbone.layers, backbone.config.num_hidden_layers = layers, len(layers)
        backbone.norm = norm or own
        try:
            yield
        finally:
            backbone.layers, backbone.config.num_hidden_layers = every, len(every)
            backbone.norm = own

    def _lowest(self, layers: int) -> nn.ModuleList:
        every = cast(nn.ModuleList, self.backbone.layers)
        if not 0 < layers < len(every):
            raise DataError(f"the model has {len(every)} layers; {layers} are not its lower ones")
        return nn.ModuleList(list(every)[:layers])

    def _add_adapters(self, lora: Lora) -> None:
        linear = sorted(
            {
                n.rsplit(".", 1)[-1]
                for n, m in self.backbone.named_modules()
                if isinstance(m, nn.Linear)
            }
        )
        settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=linear)
        settings._register_custom_module({nn.Linear: MergedLinear})
        inject_adapter_in_model(settings, self.backbone)
        for name, module in self.backbone.named_modules():
            if isinstance(module, LoraLayer):
                # Autocast chooses the arithmetic; peft would first copy every input to float32.
                module.cast_input_dtype_enabled = False
            if name.endswith((".lora_A.default", ".lora_B.default")):
                module.float()

    @torch.no_grad()
    def _base_logits(self, token_ids: Tensor, anchored: Tensor) -> Tensor:
        """(anchored tokens, image_offset): what the base model predicts for each of them."""
        rows = anchored.any(dim=1)
        # As long as its longest sequence: others in the batch may be longer.
        length = int(anchored.any(dim=0).nonzero().max()) + 1
        with self.without_adapters():
            hidden = self.hidden_states(token_ids[rows, :length])[:, :-1]
        return self.text_logits(hidden[anchored[rows, 1:length]])

    def _divergence(self, hidden: Tensor, base_logits: Tensor) -> Tensor:
        """Sum of KL(base, model) over text tokens, in nats."""
        logits = F.log_softmax(self.text_logits(hidden).float(), dim=-1)
        base = F.log_softmax(base_logits.float(), dim=-1)
        return F.kl_div(logits, base, reduction="sum", log_target=True)

    def _cross_entropy(
        self, hidden: Tensor, targets: Tensor, weights: Tensor, mask: Tensor, *, image: bool
    ) -> tuple[Tensor, Tensor]:
        mask = mask & (weights > 0)
        chosen = hidden[mask]
        logits = self.image_logits(chosen) if image else self.text_logits(chosen)
        wanted = targets[mask] - (self.vocabulary.image_offset if image else 0)
        each = F.cross_entropy(logits.float(), wanted, reduction="none")
        return (each * weights[mask]).sum(), weights[mask].sum()


def branch_mask(branches: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores (B, 1, T, T): 0 where a token may look, else -infinity.

    At what is before it in the trunk (0) and in its own branch, as if the branch stood alone.
    """
    length = branches.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril_()
    seen = (branches.unsqueeze(1) == 0) | (branches.unsqueeze(1) == branches.unsqueeze(2))
    mask = torch.zeros(seen.shape, dtype=dtype, device=branches.device)
    return mask.masked_fill_(~(seen & causal), -torch.inf).unsqueeze(1)


def branch_positions(branches: Tensor) -> Tensor:
    """Positions (B, T): each branch goes on from the end of the trunk."""
    places = torch.arange(branches.shape[1], device=branches.device).expand_as(branches)
    starts = torch.zeros_like(branches)
    # Where each branch begins: its place less the trunk's length is taken off.
    begins = torch.ones_like(branches, dtype=torch.bool)
    begins[:, 1:] = branches[:, 1:] != branches[:, :-1]
    starts = torch.where(begins, places, starts).cummax(dim=1).values
    trunk = (branches == 0).sum(dim=1, keepdim=True)
    return torch.where(branches == 0, places, places - starts + trunk)
