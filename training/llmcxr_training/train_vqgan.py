"""`llmcxr-train vqgan`: train the image tokenizer; resumable to the step.

Losses: L1 and gradient reconstruction, commitment, and after `adversarial_start` a patch
discriminator with an adaptive weight. The codebook follows running means with revival.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from llmcxr_models.preprocess import Geometry, Preprocessing, to_grey8
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.vqgan import Quantized, VqGan, VqGanConfig
from llmcxr_training import vqgan_losses as losses
from llmcxr_training.codebook import CodebookAverages
from llmcxr_training.data import DataError, describe
from llmcxr_training.datasets import Data
from llmcxr_training.discriminator import PatchDiscriminator
from llmcxr_training.encode_images import Augmentation, augment
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.precision import Precision, autocast, resolve_device, resolve_precision
from llmcxr_training.run_state import (
    git_state,
    load_state,
    save_state,
    save_weights,
    seed_everything,
    write_json,
)

_log = logging.getLogger(__name__)


class VqGanArchitecture(BaseModel):
    """The `[architecture]` table; see `VqGanConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = 256
    image_channels: int = 1
    base_channels: int = 32
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 4, 4)
    res_blocks: int = 1
    attention_resolutions: tuple[int, ...] = (16,)
    latent_channels: int = 128
    codebook_dim: int = 16
    codebook_size: int = 1024
    norm_groups: int = 16


class VqGanTraining(BaseModel):
    """Everything that a VQ-GAN run depends on.

    Attributes:
        data: where the radiographs are.
        output: run folder; the state in it is resumed.
        steps: optimiser steps in all.
        adversarial_start: step from which the discriminator learns.
        discriminator_head_start: steps that it learns before the VQ-GAN hears of it. One that
            starts together with the VQ-GAN's adversarial term is fooled before it has learnt
            anything, and its adaptive weight then amplifies noise.
        save_every_seconds: a killed run loses at most this much.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Data
    output: Path
    pipeline: Pipeline = Pipeline.DISPLAY
    geometry: Geometry = Geometry.SQUASH
    architecture: VqGanArchitecture = VqGanArchitecture()
    steps: int = 4000
    batch_size: int = 4
    learning_rate: float = 8e-4
    warmup_steps: int = 50
    final_learning_rate_share: float = 0.1
    gradient_weight: float = 1.0
    commitment_weight: float = 0.25
    codebook_decay: float = 0.99
    codebook_revive_below: float = 0.3
    adversarial_start: int = 1500
    adversarial_weight: float = 0.25
    adaptive_weight_limit: float = 10.0
    discriminator_head_start: int = 100
    discriminator_learning_rate: float = 1e-3
    augmentation: Augmentation = Augmentation()
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    save_every_seconds: float = 120.0
    preview_every_steps: int = 250

    @property
    def preprocessing(self) -> Preprocessing:
        """What the tokenizer is trained on."""
        return Preprocessing(
            self.pipeline,
            self.geometry,
            self.architecture.image_size,
            self.architecture.image_channels,
        )


def train_vqgan(config: VqGanTraining) -> Path:
    """Train to `config.steps`, resuming what `config.output` holds; returns the weights' path."""
    if config.threads:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    config.output.mkdir(parents=True, exist_ok=True)
    write_json(config.output / "config.json", config.model_dump(mode="json"))
    write_json(config.output / "git.json", git_state())
    studies = config.data.studies()
    _log.info("data: %s", describe(studies))
    cache = PixelCache.open(studies, config.preprocessing, config.output.parent / "pixels")
    run = VqGanRun(config, cache)
    run.resume()
    run.train()
    return run.export()


class VqGanRun:
    """One run: networks, optimisers, and the step they are at."""

    def __init__(self, config: VqGanTraining, cache: PixelCache) -> None:
        self.config = config
        self.cache = cache
        self.train_rows = [i for i, s in enumerate(cache.studies) if s.split == "train"]
        self.val_rows = [i for i, s in enumerate(cache.studies) if s.split == "val"][:32]
        if not self.train_rows or not self.val_rows:
            raise DataError("a VQ-GAN needs radiographs of both the train and the val split")
        self.device = resolve_device(config.device)
        self.dtype = resolve_precision(config.precision, self.device)
        architecture = VqGanConfig(**config.architecture.model_dump())
        self.vqgan = VqGan(architecture).to(self.device)
        self.discriminator = PatchDiscriminator(architecture.image_channels).to(self.device)
        self.codebook = CodebookAverages(
            self.vqgan.quantize.embedding.weight,
            decay=config.codebook_decay,
            revive_below=config.codebook_revive_below,
        )
        trained = [p for p in self.vqgan.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=config.learning_rate, betas=(0.5, 0.9))
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=config.discriminator_learning_rate,
            betas=(0.5, 0.9),
        )
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Continue from the run folder's state, where there is one."""
        state = load_state(self.config.output)
        if state is None:
            return
        self.vqgan.load_state_dict(state["vqgan"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.codebook.load_state_dict(state["codebook"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        for group in self.discriminator_optimizer.param_groups:
            group["lr"] = self.config.discriminator_learning_rate  # a changed one is obeyed
        self.step, self.seconds = state["step"], state["seconds"]
        _log.info("resumed at step %d", self.step)

    def save(self) -> None:
        """Write the state to resume from."""
        state = {
            "vqgan": self.vqgan.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "codebook": self.codebook.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        save_state(self.config.output, state)

    def train(self) -> None:
        """Step until `config.steps`."""
        config = self.config
        writer = SummaryWriter(str(config.output / "tensorboard"))
        saved_at = time.monotonic()
        progress = tqdm(total=config.steps, initial=self.step, desc="vqgan", unit="step")
        with progress:
            while self.step < config.steps:
                started = time.monotonic()
                metrics = self.train_step()
                self.step += 1
                self.seconds += time.monotonic() - started
                progress.update()
                if self.step % 20 == 0:
                    _write_scalars(writer, metrics, self.step)
                    progress.set_postfix({k: f"{v:.3f}" for k, v in metrics.items()})
                if self.step % config.preview_every_steps == 0:
                    _write_scalars(writer, self.validate(), self.step)
                if time.monotonic() - saved_at > config.save_every_seconds:
                    self.save()
                    saved_at = time.monotonic()
        self.save()
        writer.close()

    def train_step(self) -> dict[str, float]:
        """One optimiser step; the batch depends on the seed and the step only.

        Raises:
            FloatingPointError: the gradient is not finite; weights and state are as before.
        """
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        pixels = self._augmented_batch(generator).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._learning_rate_share()
        with autocast(self.device, self.dtype):
            reconstructed, quantized = self.vqgan(pixels)
        reconstructed = reconstructed.float()
        pixel_loss = losses.reconstruction_loss(pixels, reconstructed)
        edge_loss = losses.gradient_loss(pixels, reconstructed)
        commitment = losses.commitment_loss(quantized, self.vqgan.quantize.embedding.weight)
        reconstruction = pixel_loss + config.gradient_weight * edge_loss
        loss = reconstruction + config.commitment_weight * commitment
        metrics = {"l1": pixel_loss.item(), "edge": edge_loss.item(), "commit": commitment.item()}
        discriminating = self.step >= config.adversarial_start
        if self.step >= config.adversarial_start + config.discriminator_head_start:
            loss = loss + self._generator_term(reconstructed, reconstruction, metrics)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.vqgan.parameters(), 1.0)
        # One such step would spoil every weight, and the next save the state.
        if not norm.isfinite():
            raise FloatingPointError(f"the gradient of step {self.step} is not finite")
        self.optimizer.step()
        revived = self.codebook.update(_on_cpu(quantized), generator)
        metrics["revived"] = float(revived)
        if discriminating:
            metrics["disc"] = self._discriminator_step(pixels, reconstructed.detach())
        return metrics

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR (dB) and codebook use on validation images; writes a picture grid."""
        self.vqgan.eval()
        pixels = self.cache.batch(self.val_rows, self.config.architecture.image_channels)
        parts = [self.vqgan(p.to(self.device)) for p in pixels.split(4)]
        self.vqgan.train()
        reconstructed = torch.cat([r.float().cpu().clamp(-1, 1) for r, _ in parts])
        codes = torch.cat([q.codes.cpu() for _, q in parts])
        error = (reconstructed - pixels).square().mean(dim=(1, 2, 3))
        grid = np.concatenate(
            [
                np.concatenate([to_grey8(x) for x in rows[:6]], axis=1)
                for rows in (pixels, reconstructed)
            ]
        )
        Image.fromarray(grid).save(self.config.output / f"preview-{self.step:06d}.png")
        result = {
            "val_psnr_db": float((10 * torch.log10(4.0 / error)).mean()),
            "val_codes_used": float(len(codes.unique())),
        }
        _log.info("step %d: %s", self.step, result)
        return result

    def export(self) -> Path:
        """Write the weights as safetensors and what they are as JSON."""
        path = self.config.output / "vqgan.safetensors"
        weights = {k: v.detach().cpu().contiguous() for k, v in self.vqgan.state_dict().items()}
        save_weights(path, weights)
        write_json(
            self.config.output / "vqgan.json",
            {
                "vqgan": self.vqgan.config.to_dict(),
                "preprocessing": self.config.model_dump(
                    mode="json", include={"pipeline", "geometry"}
                ),
                "steps": self.step,
                "images_seen": self.step * self.config.batch_size,
                "wall_seconds": round(self.seconds),
                "seed": self.config.seed,
                "git": git_state(),
            },
        )
        return path

    def _augmented_batch(self, generator: torch.Generator) -> Tensor:
        """Shifted by a few pixels and changed in contrast; never mirrored: the heart has a side."""
        config = self.config
        picks = torch.randint(len(self.train_rows), (config.batch_size,), generator=generator)
        rows = [self.train_rows[i] for i in picks.tolist()]
        pixels = self.cache.batch(rows, config.architecture.image_channels)
        return augment(pixels, config.augmentation, generator)

    def _generator_term(
        self, reconstructed: Tensor, reconstruction: Tensor, metrics: dict[str, float]
    ) -> Tensor:
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        with autocast(self.device, self.dtype):
            fake = self.discriminator(reconstructed)
        adversarial = losses.adversarial_loss(fake.float())
        weight = losses.adaptive_weight(
            reconstruction,
            adversarial,
            self.vqgan.decoder.conv_out.weight,
            limit=self.config.adaptive_weight_limit,
        )
        metrics["adv_weight"] = weight.item()
        return self.config.adversarial_weight * weight * adversarial

    def _discriminator_step(self, real: Tensor, fake: Tensor) -> float:
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        with autocast(self.device, self.dtype):
            logits = self.discriminator(torch.cat([real, fake])).float()
        loss = losses.hinge_discriminator_loss(logits[: len(real)], logits[len(real) :])
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimizer.step()
        return loss.item()

    def _learning_rate_share(self) -> float:
        """Linear warm-up, then a cosine to `final_learning_rate_share`."""
        config = self.config
        if self.step < config.warmup_steps:
            return (self.step + 1) / config.warmup_steps
        done = (self.step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        low = config.final_learning_rate_share
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _on_cpu(quantized: Quantized) -> Quantized:
    return Quantized(*(tensor.detach().cpu() for tensor in quantized))


def _write_scalars(writer: SummaryWriter, metrics: dict[str, float], step: int) -> None:
    for name, value in metrics.items():
        writer.add_scalar(name, value, step)
