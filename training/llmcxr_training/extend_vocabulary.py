"""Grow tokenizer and embeddings by one real token for each code of an image tokenizer.

The new rows start from the codebook: a fixed random projection of its vectors, scaled to the
statistics of the text rows. Codes that look alike start alike, and no row stands out.
"""

from __future__ import annotations

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llmcxr_models.vocabulary import Vocabulary, image_token_name


class VocabularyError(Exception):
    """Tokenizer and model do not fit together."""


def extend_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    codebook: Tensor,
    image_length: int,
    *,
    ending: str,
    seed: int = 0,
) -> Vocabulary:
    """Add image tokens to both, in place.

    Args:
        model: input and output embeddings tied or not.
        tokenizer: of that model.
        codebook: (codebook_size, codebook_dim) vectors of the VQ-GAN.
        image_length: codes in one image.
        ending: the token that ends an answer in the checkpoint's template.
        seed: of the projection.

    Returns:
        Where the image tokens are.

    Raises:
        VocabularyError: the tokenizer has more entries than the model has rows, image tokens
            already, or no token `ending`.
    """
    rows = len(embedding_weight(model.get_input_embeddings()))
    if len(tokenizer) > rows:
        raise VocabularyError(f"the tokenizer has {len(tokenizer)} entries, the model {rows} rows")
    stop = tokenizer.convert_tokens_to_ids(ending)
    if not isinstance(stop, int) or stop == tokenizer.unk_token_id:
        raise VocabularyError(f"the tokenizer has no token {ending}")
    offset = len(tokenizer)
    names = [image_token_name(code) for code in range(len(codebook))]
    added = tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True
    )
    if added != len(names):
        raise VocabularyError("the tokenizer already has image tokens")
    size = offset + len(names)
    model.resize_token_embeddings(size, mean_resizing=False)
    _initialise(model, offset, codebook, seed)
    return Vocabulary(size, offset, len(names), image_length, (stop,))


def initial_rows(codebook: Tensor, text_rows: Tensor, seed: int = 0) -> Tensor:
    """Rows (codebook_size, width) for the codes, with the mean and spread of the text rows."""
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(codebook.shape[1], text_rows.shape[1], generator=generator)
    rows = codebook.float() @ projection
    rows = (rows - rows.mean(0)) / rows.std().clamp_min(1e-6)
    return rows * text_rows.std() + text_rows.mean(0)


@torch.no_grad()
def _initialise(model: PreTrainedModel, offset: int, codebook: Tensor, seed: int) -> None:
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = {id(w): w for w in map(embedding_weight, layers)}  # once, where they are tied
    for weight in weights.values():
        weight[offset:] = initial_rows(codebook, weight[:offset].float(), seed).to(weight.dtype)


def embedding_weight(layer: nn.Module | None) -> Tensor:
    """The weight (rows, width) of an embedding or output layer.

    Raises:
        VocabularyError: there is none of the usual kind.
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise VocabularyError("the model has no embedding of the usual kind")
    return weight
