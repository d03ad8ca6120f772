"""The text tokenizer of the official release, to which the image tokens are added or taken away.

The release keeps its image ids outside the tokenizer: id = code + its number of entries. We keep
them inside, as entries that nobody's text can spell. Works on `tokenizer.json` itself, because a
tokenizer class of another library version may rebuild what is in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from llmcxr_models.vocabulary import image_token_name
from llmcxr_training.conversion import ConversionError

ENDING = "### End"
SPECIAL_TOKENS = ("### Instruction:", "### Response:\n", ENDING)
"""Of databricks/dolly. The line end is part of the second."""
TOKENIZER_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
_DESCRIPTIONS = (_CONFIG_FILE, "special_tokens_map.json")


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a Hugging Face directory.

    Raises:
        ConversionError: there is no `tokenizer.json`, it is damaged, or its ids have gaps.
    """
    path = folder / TOKENIZER_FILE
    try:
        definition = path.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(definition)
    except (OSError, UnicodeDecodeError) as error:
        raise ConversionError(f"there is no readable {TOKENIZER_FILE} in {folder}") from error
    except Exception as error:  # tokenizers raises plain Exception
        raise ConversionError(f"{path} is no tokenizer") from error
    # Where ids have gaps, the library numbers added tokens anew and does not say so.
    for token in json.loads(definition).get("added_tokens") or []:
        read_as = tokenizer.token_to_id(token["content"])
        if read_as != token["id"]:
            raise ConversionError(
                f"{path} gives {token['content']!r} the id {token['id']}, but it is read as "
                f"{read_as}"
            )
    return tokenizer


def check_special_tokens(tokenizer: Tokenizer) -> int:
    """Check that each of dolly's special tokens is one token; returns the id of the ending.

    Raises:
        ConversionError: one is not.
    """
    ids: dict[str, int] = {}
    for name in SPECIAL_TOKENS:
        token_id = tokenizer.token_to_id(name)
        if token_id is None or tokenizer.encode(name, add_special_tokens=False).ids != [token_id]:
            raise ConversionError(f"the tokenizer has no special token {name!r}")
        ids[name] = token_id
    return ids[ENDING]


def add_image_tokens(tokenizer: Tokenizer, image_offset: int, codebook_size: int) -> None:
    """Add one special token for each code, in place; code 0 gets the id `image_offset`.

    Raises:
        ConversionError: the ids would be others.
    """
    names = [image_token_name(code) for code in range(codebook_size)]
    if any(tokenizer.token_to_id(name) is not None for name in names):
        raise ConversionError("the tokenizer has image tokens already")
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size != image_offset:
        raise ConversionError(
            f"the tokenizer has {size} entries, but the image ids start at {image_offset}"
        )
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    ids = [tokenizer.token_to_id(name) for name in names]
    if ids != list(range(image_offset, image_offset + codebook_size)):
        raise ConversionError(
            f"the tokenizer's ids have gaps: image ids from {image_offset} on are not free"
        )


def without_image_tokens(definition: str, codebook_size: int) -> str:
    """`tokenizer.json` without its image tokens; everything else as it was."""
    values = json.loads(definition)
    names = {image_token_name(code) for code in range(codebook_size)}
    added = values.get("added_tokens") or []
    values["added_tokens"] = [token for token in added if token["content"] not in names]
    return json.dumps(values, ensure_ascii=False, indent=2)


def copy_descriptions(source: Path, target: Path, codebook_size: int) -> None:
    """Copy what describes a tokenizer beside `tokenizer.json`, without image tokens.

    They say which entry pads or ends; every entry itself is in `tokenizer.json`.
    """
    names = {image_token_name(code) for code in range(codebook_size)}
    for file in _DESCRIPTIONS:
        if not (source / file).is_file():
            continue
        try:
            values = json.loads((source / file).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConversionError(f"{source / file} is no JSON") from error
        if not isinstance(values, dict):
            raise ConversionError(f"{source / file} is no JSON object")
        values = {key: _without(value, names) for key, value in values.items()}
        if values.get("tokenizer_class") == "TokenizersBackend":
            values["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name before version 5
        text = json.dumps(values, ensure_ascii=False, indent=2, sort_keys=True)
        (target / file).write_text(text + "\n", encoding="utf-8")


def _without(value: Any, names: set[str]) -> Any:  # noqa: ANN401  any JSON value
    if isinstance(value, list):
        return [entry for entry in value if _content(entry) not in names]
    if isinstance(value, dict):
        return {key: entry for key, entry in value.items() if _content(entry) not in names}
    return value


def _content(entry: Any) -> str:  # noqa: ANN401  a token as text or as an object
    content = entry.get("content") if isinstance(entry, dict) else entry
    return content if isinstance(content, str) else ""
