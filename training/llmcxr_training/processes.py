"""The processes of one training run, by Hugging Face accelerate: one, or one a GPU, the same code.

Which strategy is used (one process, DDP, FSDP, DeepSpeed) is the launcher's business:
`accelerate launch --config_file training/configs/accelerate/...`. This module hides what differs;
it knows nothing of the model but that it is one `nn.Module`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from llmcxr_training.data import DataError
from llmcxr_training.precision import resolve_device

_log = logging.getLogger(__name__)

_PATIENCE = timedelta(hours=6)
"""How long processes wait for the main one, which encodes the images for all."""

_SHARDS = "shards-"


class Processes:
    """This process among those of its run.

    Args:
        device: as in a configuration; with several processes each has its own GPU.
    """

    def __init__(self, device: str = "auto") -> None:
        chosen = resolve_device(device)
        self.accelerator = Accelerator(
            cpu=chosen.type == "cpu",
            device_placement=False,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
        self.count: int = self.accelerator.num_processes
        self.is_main: bool = self.accelerator.is_main_process
        if self.is_main and self.count > 1:
            strategy = self.accelerator.distributed_type.value
            _log.info("work is shared among %d processes (%s)", self.count, strategy)
        self.device = chosen if self.count == 1 else torch.device(self.accelerator.device)
        if self.is_deepspeed:
            from transformers.integrations.deepspeed import unset_hf_deepspeed_config

            # transformers would load the base model in parts; its embeddings could not be grown.
            unset_hf_deepspeed_config()

    @property
    def is_deepspeed(self) -> bool:
        """Whether DeepSpeed keeps weights and optimiser; it chooses the arithmetic as well."""
        return bool(self.accelerator.distributed_type == DistributedType.DEEPSPEED)

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the weights only."""
        return bool(
            self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        )

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block alone, then the others find its files."""
        with self.accelerator.main_process_first():
            yield

    def check_batch(self, batch_size: int) -> None:
        """See that a batch can be shared out.

        Raises:
            DataError: it cannot.
        """
        if batch_size % self.count:
            raise DataError(
                f"a batch of {batch_size} cannot be shared by {self.count} processes alike"
            )

    def share(self, numbers: range) -> range:
        """This process's part of `numbers`, whose length is a multiple of `count`."""
        size = len(numbers) // self.count
        start = self.accelerator.process_index * size
        return numbers[start : start + size]

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.count == 1:
            return list(values)
        # float32, which every backend adds; sums of loss weights are exact in it.
        local = torch.tensor(values, dtype=torch.float32, device=self.device)
        total: Tensor = self.accelerator.reduce(local, reduction="sum")
        return [float(value) for value in total]

    def agree(self, wish: bool) -> bool:
        """What the main process wishes; clocks differ."""
        return self.sums([float(wish and self.is_main)])[0] > 0

    def prepare(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        micro_batch_size: int,
        micro_batches: int,
        gradient_clip: float,
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap both for the strategy; the settings are for DeepSpeed, which steps by itself."""
        if self.is_deepspeed:
            self.accelerator.state.deepspeed_plugin.deepspeed_config.update(
                train_micro_batch_size_per_gpu=micro_batch_size,
                gradient_accumulation_steps=micro_batches,
                gradient_clipping=gradient_clip,
            )
        prepared: tuple[nn.Module, torch.optim.Optimizer]
        prepared = self.accelerator.prepare(model, optimizer)
        return prepared

    @contextmanager
    def micro_batch(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        """Forward and backward of one micro batch; gradients are exchanged after the last.

        With sharded weights they are exchanged each time: whole gradients would not fit.
        """
        self.accelerator.sync_gradients = last or not self.is_deepspeed
        if isinstance(model, DistributedDataParallel) and not last:
            with model.no_sync():
                yield
        else:
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, this process's part of a sum over all processes."""
        # Every strategy takes the mean over processes.
        loss = loss * self.count
        if self.is_deepspeed:
            self.accelerator.backward(loss, scale_wrt_gas=False)
        else:
            self.accelerator.backward(loss)

    def clip(self, model: nn.Module, limit: float) -> float:
        """Clip the gradient of the whole model; its norm before. DeepSpeed has done it already."""
        norm = self.accelerator.clip_grad_norm_(model.parameters(), limit)
        if isinstance(norm, Tensor):
            # FSDP2 gives a tensor that is spread over the processes.
            norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return float(norm)

    def gather(self, model: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
        """The weights `names`, whole, on the CPU; of sharded weights the main process has them.

        To be called by all processes.
        """
        if self.is_deepspeed:
            from deepspeed.utils import safe_get_full_fp32_param

            parameters = dict(self.accelerator.unwrap_model(model).named_parameters())
            whole = {}
            for name in names:  # one at a time: together they do not fit on a GPU
                tensor = safe_get_full_fp32_param(parameters[name])
                if self.is_main:
                    whole[name] = tensor.detach().cpu()
            return whole
        state = self.accelerator.get_state_dict(model)
        return {name: state[name].detach().cpu() for name in names if name in state}

    def save_shards(self, folder: Path, step: int) -> str:
        """Each process writes its part of weights and optimiser; the name of the directory."""
        name = f"{_SHARDS}{step}"
        self.accelerator.save_state(str(folder / name))
        self.accelerator.wait_for_everyone()
        return name

    def load_shards(self, folder: Path, name: str) -> None:
        """The inverse of `save_shards`."""
        self.accelerator.load_state(str(folder / name))

    def drop_shards(self, folder: Path, but: str) -> None:
        """Remove the directories of earlier saves."""
        if self.is_main:
            for old in folder.glob(f"{_SHARDS}*"):
                if old.name != but:
                    shutil.rmtree(old)
