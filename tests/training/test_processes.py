"""Two processes compute what one computes; started as a user would, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from llmcxr_training.data import DataError
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.processes import Processes
from llmcxr_training.run_state import load_state
from llmcxr_training.stage import finetune

MakeConfig = Callable[..., Finetuning]
ACCELERATE = Path(__file__).parents[2] / "training" / "configs" / "accelerate"


def launch(config: Finetuning, count: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """`torchrun -m llmcxr_training finetune CONFIG`; accelerate's launcher has GPUs in mind."""
    path = folder / f"{config.output.name}.toml"
    path.write_text(_toml(config))
    run = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count))
    return subprocess.run(
        [sys.executable, *run, "-m", "llmcxr_training", "finetune", str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )


def _toml(config: Finetuning) -> str:
    values = config.model_dump(mode="json", exclude_none=True)
    tables = {k: v for k, v in values.items() if isinstance(v, dict)}
    lines = [f"{k} = {_value(v)}" for k, v in values.items() if k not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{k} = {_value(v)}" for k, v in table.items() if v is not None)]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def logged(output: Path) -> dict[str, list[float]]:
    """The curves of a run."""
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("anchor", [0.0, 2.0])
def test_two_processes_compute_what_one_does(
    make_config: MakeConfig, tmp_path: Path, anchor: float
) -> None:
    settings = {
        "anchor_weight": anchor,
        "steps": 4,
        "batch_size": 8,
        "micro_batch_size": 2,
        "validate_every_steps": 2,
        "validation_examples": 3,
    }
    # Three are rounded up to four by two processes, so one process is asked for four.
    one = make_config(**(settings | {"validation_examples": 4}), output=tmp_path / "one")
    two = make_config(**settings, output=tmp_path / "two")
    finetune(one)
    ended = launch(two, 2, tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "among 2 processes" in ended.stderr
    curves, wanted = logged(two.output), logged(one.output)
    parts = {"image_loss", "text_loss", *({"anchor_loss"} if anchor else ())}
    assert set(curves) == {*parts, "val_image_loss", "val_text_loss"}
    anchors = [found.pop("anchor_loss", []) for found in (curves, wanted)]
    assert anchors[0] == pytest.approx(anchors[1], rel=1e-4, abs=1e-6)  # zero but for rounding
    for tag, values in wanted.items():
        assert curves[tag] == pytest.approx(values, rel=1e-4)  # each step once, by one process
    states = [load_state(config.output) for config in (one, two)]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], tensor, rtol=1e-3, atol=1e-5)
    # What two began, one can finish.
    assert finetune(two.model_copy(update={"steps": 5})).step == 5


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    processes = Processes("cpu")
    processes.check_batch(3)
    processes.count = 2
    with pytest.raises(DataError, match="2 processes"):
        processes.check_batch(3)
    assert processes.share(range(10, 16)) == range(10, 13)


def test_checkpointed_activations_change_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    for lora in (None, make_config().lora):
        plain, checkpointed = (
            finetune(
                make_config(
                    lora=lora,
                    steps=2,
                    gradient_checkpointing=switch,
                    output=tmp_path / f"{switch}-{lora}",
                )
            )
            for switch in (False, True)
        )
        assert checkpointed.model.backbone.is_gradient_checkpointing
        assert not plain.model.backbone.is_gradient_checkpointing
        for name, tensor in plain.model.trained_state().items():
            assert torch.equal(checkpointed.model.trained_state()[name], tensor)


@pytest.mark.parametrize("file", sorted(ACCELERATE.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_launcher_s_configurations_are_valid(file: Path) -> None:
    config = load_config_from_file(str(file))  # refuses unknown keys
    assert config.num_processes == (8 if "8gpu" in file.stem else 1)
    parser = launch_command_parser()
    known = {action.dest for action in parser._actions}
    assert {*config.fsdp_config, *config.deepspeed_config} <= known
