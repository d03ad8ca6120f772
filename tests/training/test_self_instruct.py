"""What the base model says is drawn by the seed, and read back as training examples."""

from __future__ import annotations

import json
from pathlib import Path

from tests.training.conftest import DataSet

from llmcxr_training.instructions import read_instructions
from llmcxr_training.self_instruct import self_instruct


def test_the_base_model_s_own_words(base_folder: Path, data_set: DataSet, tmp_path: Path) -> None:
    files = [
        self_instruct(
            base_folder,
            data_set.instructions,
            tmp_path / f"{name}.jsonl",
            count=10,
            seed=seed,
            max_tokens=6,
            batch_size=4,
        )
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    ]
    one, same, other = (file.read_text() for file in files)
    assert one == same
    assert one != other
    records = [json.loads(line) for line in one.split("\n") if line]
    assert 5 <= len(records) <= 10
    assert any("text" in record for record in records)
    assert any("response" in record for record in records)
    own = read_instructions(files[0])
    assert len(own) == len(records)
    assert any(instruction.is_cut for instruction in own)
    assert not list(tmp_path.glob("*.tmp"))
