"""The commands of a researcher, one after the other, on drawn pictures; and how they fail."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training.conftest import DataSet
from transformers import AutoModelForCausalLM

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_training.__main__ import main

TINY = Path(__file__).parents[2] / "runs" / "tiny.sh"
VQGAN = """
data = {{ kind = "jsonl", manifest = "{manifest}" }}
output = "{folder}/vqgan"
steps = 4
batch_size = 2
device = "cpu"
precision = "float32"
adversarial_start = 1
discriminator_head_start = 1
preview_every_steps = 2
[architecture]
image_size = 32
base_channels = 8
channel_multipliers = [1, 1, 2, 2]
attention_resolutions = [4]
latent_channels = 8
codebook_dim = 4
codebook_size = 16
norm_groups = 4
[augmentation]
shift_pixels = 1
"""
FINETUNE = """
base = "{base}"
vqgan = "{folder}/vqgan"
data = {{ kind = "jsonl", manifest = "{manifest}" }}
instructions = "{instructions}"
output = "{folder}/finetune"
steps = 3
batch_size = 4
micro_batch_size = 2
validate_every_steps = 2
validation_examples = 2
device = "cpu"
precision = "float32"
[lora]
rank = 4
alpha = 8
"""


@pytest.fixture
def folder(tmp_path: Path, data_set: DataSet, base_folder: Path) -> Path:
    """With the two configurations."""
    for name, text in (("vqgan", VQGAN), ("finetune", FINETUNE)):
        filled = text.format(
            manifest=data_set.manifest,
            instructions=data_set.instructions,
            base=base_folder,
            folder=tmp_path,
        )
        (tmp_path / f"{name}.toml").write_text(filled)
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `llmcxr-train`; its exit status."""
    monkeypatch.setattr(sys, "argv", ["llmcxr-train", *map(str, arguments)])
    handlers = logging.getLogger().handlers[:]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        logging.getLogger().handlers[:] = handlers
    return 0


def test_the_tiny_run_makes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of `runs/tiny.sh`, in this process: eight starts would take a minute."""
    monkeypatch.chdir(tmp_path)
    lines = [text for text in TINY.read_text().splitlines() if text.startswith("train ")]
    assert [text.split()[1] for text in lines] == [
        *("synthesise", "vqgan", "judge", "gate", "finetune", "finetune", "publish", "assemble"),
    ]
    configs = TINY.parents[1] / "training" / "configs" / "tiny"
    for text in lines:
        arguments = shlex.split(text.replace("$configs", str(configs)))[1:]
        assert command(monkeypatch, *arguments) == 0, text
    assert {path.name for path in tmp_path.iterdir()} == {
        *("data", "pixels", "vqgan", "judge", "gate", "stage1", "stage2", "release", "checkpoint"),
    }
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    assert checkpoint.manifest.name == "tiny"
    assert checkpoint.manifest.views == ("frontal",)
    assert checkpoint.load_gate() is not None
    stages = [
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("stage1", "stage2")
    ]
    sequences = stages[1]["steps"] * stages[1]["batch_size"]
    assert checkpoint.manifest.provenance["finetuning"]["sequences"] == sequences
    assert 0 < stages[1]["steps"] < stages[0]["steps"]
    assert len(list((tmp_path / "vqgan").glob("codes-*.npz"))) == 1
    _reads_and_draws(checkpoint)
    # Everything is done already, and stays as it is.
    again = shlex.split(lines[-1])[1:]
    assert command(monkeypatch, *again) == 0


def test_the_scripts_are_shell() -> None:
    for script in sorted(TINY.parent.glob("*.sh")):
        subprocess.run(["sh", "-n", str(script)], check=True)
        assert os.access(script, os.X_OK)
        for name in re.findall(r"training/configs/[\w./-]+\.(?:toml|yaml)", script.read_text()):
            assert (TINY.parents[1] / name).is_file(), name


def _reads_and_draws(checkpoint: Checkpoint) -> None:
    """As the service would: an image into the prompt, and an image out of a report."""
    tokenizer = ImageTokenizer(checkpoint.load_vqgan())
    builder, vocabulary = checkpoint.load_prompts(), checkpoint.manifest.vocabulary
    llm = AutoModelForCausalLM.from_pretrained(checkpoint.llm_path, dtype=torch.float32)
    codes = tokenizer.encode(torch.zeros(1, 1, 32, 32))[0].tolist()
    assert len(builder.report(codes).token_ids) > vocabulary.image_length
    token_ids = list(builder.image("Findings: The heart is enlarged.").token_ids)
    prompt_length = len(token_ids)
    for _ in range(vocabulary.image_length):
        with torch.no_grad():
            logits = llm(input_ids=torch.tensor([token_ids])).logits[0, -1]
        token_ids.append(vocabulary.image_offset + int(logits[vocabulary.image_offset :].argmax()))
    drawn = vocabulary.to_codes(token_ids[prompt_length:])
    assert tokenizer.decode(torch.tensor([drawn])).shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vqgan", "vqgan.toml", "--set", "stepz=1"), "stepz"),
        (("vqgan", "none.toml"), "none.toml"),
        (("vqgan", "vqgan.toml", "--set", "data.manifest=none.jsonl"), "none.jsonl"),
        (("finetune", "finetune.toml"), "neither finished nor frozen"),
        (("publish", "finetune.toml", "release"), "run state"),
        (("assemble", "none", "--base", "none", "--output", "x"), "manifest.json"),
    ],
)
def test_a_failure_is_one_sentence(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(folder)
    assert command(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    (line,) = [text for text in error.splitlines() if text.startswith("llmcxr-train:")]
    assert said in line
    assert "Traceback" not in error


def test_a_base_that_cannot_be_loaded_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "vqgan", folder / "vqgan.toml", "--set", "steps=1") == 0
    (folder / "broken").mkdir()
    (folder / "broken.whl").write_bytes(b"no archive")
    for base in ("broken", "broken.whl", "none.gguf"):
        override = f"base={folder / base}"
        assert command(monkeypatch, "finetune", folder / "finetune.toml", "--set", override) == 1
        assert f"llmcxr-train: {base}" in capsys.readouterr().err
