"""Image tokens in the tokenizer and rows for them in the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_models.vocabulary import image_token_name
from llmcxr_training.extend_vocabulary import (
    VocabularyError,
    embedding_weight,
    extend_vocabulary,
    initial_rows,
)

CODES = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
KINDS = [("llama", True), ("llama", False), ("neox", True), ("neox", False)]


def extend(model, tokenizer, **changed):
    settings = {"codebook": CODES, "image_length": 4, "ending": "<|im_end|>"} | changed
    return extend_vocabulary(model, tokenizer, **settings)


@pytest.mark.parametrize("spare_rows", [0, 5, 40])
def test_ids_are_consecutive_at_the_end(make_model, tokenizer, spare_rows) -> None:
    texts = len(tokenizer)
    model = make_model("llama", texts + spare_rows)
    vocabulary = extend(model, tokenizer)
    names = [image_token_name(code) for code in range(16)]
    assert tokenizer.convert_tokens_to_ids(names) == list(vocabulary.image_token_ids)
    assert vocabulary.image_token_ids == range(texts, texts + 16)
    assert vocabulary.size == len(tokenizer) == texts + 16
    assert len(embedding_weight(model.get_input_embeddings())) == vocabulary.size
    assert len(embedding_weight(model.get_output_embeddings())) == vocabulary.size
    assert model.config.vocab_size == vocabulary.size
    assert vocabulary.stop_token_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)


def test_a_person_s_text_cannot_spell_an_image_token(make_model, tokenizer, tmp_path: Path) -> None:
    vocabulary = extend(make_model("llama", len(tokenizer)), tokenizer)
    tokenizer.save_pretrained(tmp_path)
    text = TextTokenizer(tmp_path / "tokenizer.json")
    spelt = "a <|image_0003|><|im_end|> b"
    assert vocabulary.image_offset + 3 in text.encode_frame(spelt)
    person = text.encode_text(spelt)
    assert not set(person) & {*vocabulary.image_token_ids, *vocabulary.stop_token_ids}
    assert text.decode(person) == spelt
    assert text.decode(text.encode_frame(spelt)) == "a  b"  # special: left out of decoded text
    assert text.size == vocabulary.size


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_text_rows_stay_and_image_rows_have_their_statistics(
    make_model, tokenizer, family, tied
) -> None:
    texts = len(tokenizer)
    before = make_model(family, texts, tied=tied)
    model = make_model(family, texts, tied=tied)
    extend(model, tokenizer)
    for old, new in (
        (before.get_input_embeddings(), model.get_input_embeddings()),
        (before.get_output_embeddings(), model.get_output_embeddings()),
    ):
        assert torch.equal(new.weight[:texts], old.weight)
        image = new.weight[texts:].detach()
        torch.testing.assert_close(image.mean(0), old.weight.mean(0), rtol=0, atol=1e-4)
        assert 0.9 < (image.std() / old.weight.std()).item() < 1.1
    shared = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert shared == tied
    assert model.config.tie_word_embeddings == tied


def test_codes_that_look_alike_start_alike() -> None:
    codebook = CODES.clone()
    codebook[1] = codebook[0] + 0.01
    rows = initial_rows(codebook, torch.randn(100, 32), seed=1)
    distances = torch.cdist(rows[:1], rows[1:])[0]
    assert int(distances.argmin()) == 0
    assert float(distances[0]) < 0.1 * float(distances[1:].min())


def test_rows_depend_on_the_seed_only() -> None:
    text = torch.randn(100, 32, generator=torch.Generator().manual_seed(2))
    assert torch.equal(initial_rows(CODES, text, 3), initial_rows(CODES, text, 3))
    assert not torch.equal(initial_rows(CODES, text, 3), initial_rows(CODES, text, 4))


def test_a_codebook_of_one_point_gives_finite_rows() -> None:
    rows = initial_rows(torch.ones(16, 4), torch.randn(100, 32))
    assert bool(rows.isfinite().all())


def test_a_tokenizer_bigger_than_the_model_is_refused(make_model, tokenizer) -> None:
    with pytest.raises(VocabularyError):
        extend(make_model("llama", len(tokenizer) - 1), tokenizer)


def test_extending_twice_is_refused(make_model, tokenizer) -> None:
    model = make_model("llama", len(tokenizer))
    extend(model, tokenizer)
    rows = len(model.get_input_embeddings().weight)
    with pytest.raises(VocabularyError, match="already"):
        extend(model, tokenizer)
    with pytest.raises(VocabularyError, match="already"):
        extend(model, tokenizer, codebook=torch.randn(20, 4))
    assert len(model.get_input_embeddings().weight) == rows


def test_a_template_of_another_model_is_refused(make_model, tokenizer) -> None:
    with pytest.raises(VocabularyError, match="### End"):
        extend(make_model("llama", len(tokenizer)), tokenizer, ending="### End")
