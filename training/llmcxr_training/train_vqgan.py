"""`llmcxr-train vqgan`: train the image tokenizer; resumable to the step.

Losses: L1, gradients and local contrast of the reconstruction, commitment, distances in the
features of frozen networks, and after `adversarial_start` a patch discriminator with an adaptive
weight. The codebook follows running means with revival. A running mean of the weights is what is
validated, shown and exported.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from llmcxr_models.checkpoint import MANIFEST
from llmcxr_models.vqgan import Quantized, ResidualBlock, VqGan, VqGanConfig
from llmcxr_training import vqgan_losses as losses
from llmcxr_training.codebook import CodebookAverages
from llmcxr_training.data import DataError, describe
from llmcxr_training.discriminator import PatchDiscriminator
from llmcxr_training.encode_images import augment
from llmcxr_training.feature_networks import FeatureNetwork, load_feature_network
from llmcxr_training.learning_rate import warm_cosine
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.precision import autocast, resolve_device, resolve_precision
from llmcxr_training.run_state import (
    git_state,
    load_moments,
    load_state,
    save_state,
    seed_everything,
)
from llmcxr_training.trained_vqgan import TrainedVqGan, export_vqgan
from llmcxr_training.training_loop import Loop, describe_run
from llmcxr_training.vqgan_preview import picture_grid, preview_rows, reconstruction_quality
from llmcxr_training.vqgan_settings import VqGanTraining
from llmcxr_training.weight_average import WeightAverage

_log = logging.getLogger(__name__)

_NOISE = "decoder.noise."


def train_vqgan(config: VqGanTraining) -> Path:
    """Train to `config.steps`, resuming what `config.output` holds; returns the weights' path."""
    if config.threads:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    describe_run(config.output, config.model_dump(mode="json"))
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
        val_rows = [i for i, s in enumerate(cache.studies) if s.split == "val"]
        self.val_rows, self.preview_rows = val_rows[:32], preview_rows(cache.studies, val_rows)
        if not self.train_rows or not val_rows:
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
        self.optimizer = _optimizer(config, self.vqgan)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=config.discriminator_learning_rate,
            betas=(0.5, 0.9),
        )
        self.average = WeightAverage(self.vqgan, config.average_decay)
        self.networks = self._load_networks()
        self.frozen = False
        self.exported = False
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Continue from the run folder's state, or start from `config.initial`.

        Raises:
            DataError: `initial` is neither a run nor a release, of another architecture, or its
                radiographs are prepared otherwise.
        """
        state = load_state(self.config.output)
        if state is None:
            self._start_from_initial()
            return
        self.vqgan.load_state_dict(state["vqgan"])
        load_moments(self.optimizer, state["optimizer"], keep=("peak",))
        self._load_companions(state)
        self.step, self.seconds = state["step"], state["seconds"]
        # States of before there was an average start it from their weights.
        self.average.load_state_dict(state.get("average", state["vqgan"]))
        if state.get("frozen", False) and self._codes_are_due():
            self._freeze_codes()
        _log.info("resumed at step %d", self.step)

    def _start_from_initial(self) -> None:
        folder = self.config.initial
        if folder is None:
            return
        state = load_state(folder)
        if state is None:
            weights = self._released_weights(folder)
        else:
            self._check_run(folder)
            weights = state["average"]
        try:
            for network in (self.vqgan, self.average.network):
                new = {k: v for k, v in network.state_dict().items() if k.startswith(_NOISE)}
                network.load_state_dict(new | weights)
            self.codebook.restart()
            if state is not None:
                self._load_companions(state)
        except RuntimeError as error:
            raise DataError(f"{folder} is of another architecture") from error

    def _released_weights(self, folder: Path) -> dict[str, Tensor]:
        if not (folder / MANIFEST).is_file():
            raise DataError(f"{folder} holds no state of a VQ-GAN run, and is no release")
        released = TrainedVqGan.of_release(folder)
        if released.preprocessing != self.config.preprocessing:
            raise _prepared_otherwise(folder)
        return dict(released.vqgan.state_dict())

    def _check_run(self, folder: Path) -> None:
        theirs = json.loads((folder / "config.json").read_text())
        ours = self.config.model_dump(mode="json")
        # The architecture has the size and the channels; weights of another do not fit.
        if any(theirs[name] != ours[name] for name in ("pipeline", "geometry")):
            raise _prepared_otherwise(folder)

    def _load_companions(self, state: Mapping[str, Any]) -> None:
        """What is beside the VQ-GAN's own weights, whichever run they come from."""
        self.codebook.load_state_dict(state["codebook"])
        self.discriminator.load_state_dict(state["discriminator"])
        moments = state["discriminator_optimizer"]
        load_moments(self.discriminator_optimizer, moments, keep=("lr",))

    def save(self) -> None:
        """Write the state to resume from."""
        state = {
            "vqgan": self.vqgan.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "codebook": self.codebook.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "average": self.average.state_dict(),
            "frozen": self.frozen,
            "step": self.step,
            "seconds": self.seconds,
        }
        save_state(self.config.output, state)

    def train(self) -> None:
        """Step until `config.steps`.

        Raises:
            Stopped: by SIGTERM; the state is saved.
        """
        config = self.config
        if config.compile:
            self.compile_blocks()
        Loop("vqgan", config.output, config.steps, config.save_every_seconds, 20).run(self)

    def after_step(self, writer: SummaryWriter | None) -> dict[str, float]:
        """Validate, show and export what has stopped moving, where it is time."""
        due = self.step % self.config.preview_every_steps == 0
        if self.frozen and (due or not self.exported):
            # Fine-tuning need not wait for the decoder.
            self.export()
        if not due:
            return {}
        if writer:
            self.show(writer)
        return self.validate()

    def train_step(self) -> dict[str, float]:
        """One optimiser step; the batch depends on the seed and the step only.

        Raises:
            FloatingPointError: the gradient is not finite; weights and state are as before.
        """
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        pixels = self._augmented_batch(generator).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self._learning_rate_share()
        if self._codes_are_due() and not self.frozen:
            self.vqgan.load_state_dict(self.average.state_dict())
            self._freeze_codes()
        reconstructed, quantized = self._reconstruct(pixels)
        metrics: dict[str, float] = {}
        reconstruction = self._reconstruction_term(pixels, reconstructed, metrics)
        loss = reconstruction + self._feature_term(pixels, reconstructed, metrics)
        if not self.frozen:
            codebook = self.vqgan.quantize.embedding.weight
            commitment = losses.commitment_loss(quantized, codebook)
            loss = loss + config.commitment_weight * commitment
            metrics["commit"] = commitment.item()
        if self.step >= config.adversarial_start + config.discriminator_head_start:
            loss = loss + self._generator_term(pixels, reconstructed, reconstruction, metrics)
        self._descend(loss)
        if not self.frozen:
            metrics["revived"] = float(self.codebook.update(_on_cpu(quantized), generator))
        self.average.update(self.vqgan, self.step)
        if self.step >= config.adversarial_start:
            metrics["disc"] = self._discriminator_step(pixels, reconstructed.detach())
        return metrics

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR (dB), structure and codebook use on validation images."""
        pixels, reconstructed, codes = self._reconstructed_rows(self.val_rows)
        result = reconstruction_quality(pixels, reconstructed)
        result["val_codes_used"] = float(len(codes.unique()))
        return result

    @torch.no_grad()
    def show(self, writer: SummaryWriter) -> None:
        """Write the picture grid of fixed validation images, as a file and to TensorBoard."""
        pixels, reconstructed, _ = self._reconstructed_rows(self.preview_rows)
        grid = picture_grid(pixels, reconstructed)
        Image.fromarray(grid).save(self.config.output / f"preview-{self.step:06d}.png")
        writer.add_image("val_reconstructions", grid, self.step, dataformats="HW")

    def export(self) -> Path:
        """Write the averaged weights as safetensors and what they are as JSON."""
        config = self.config
        self.exported = True
        return export_vqgan(
            config.output,
            self.average.state_dict(),
            {
                "vqgan": self.vqgan.config.to_dict(),
                "preprocessing": config.model_dump(mode="json", include={"pipeline", "geometry"}),
                "steps": self.step,
                "images_seen": self.step * config.batch_size,
                "wall_seconds": round(self.seconds),
                "seed": config.seed,
                "git": git_state(),
            },
        )

    def _augmented_batch(self, generator: torch.Generator) -> Tensor:
        """Shifted by a few pixels and changed in contrast; never mirrored: the heart has a side."""
        config = self.config
        picks = torch.randint(len(self.train_rows), (config.batch_size,), generator=generator)
        rows = [self.train_rows[i] for i in picks.tolist()]
        pixels = self.cache.batch(rows, config.architecture.image_channels)
        return augment(pixels, config.augmentation, generator)

    def _load_networks(self) -> dict[Path, FeatureNetwork]:
        """Those of a weight above zero; one that serves both terms is loaded and asked once."""
        config = self.config
        terms = (
            (config.perceptual_network, config.perceptual_weight),
            (config.clinical_network, config.clinical_weight),
        )
        wanted = {path for path, weight in terms if path is not None and weight}
        return {path: load_feature_network(path, self.device) for path in sorted(wanted)}

    def compile_blocks(self) -> None:
        """Block by block: a level compiled whole, its upsampling with it, has no gradient.

        Seen with torch 2.13 under bfloat16 autocast, where the gradient at such a level's input
        came back as zeros; that of blocks is right (tested). Each has its own shape.
        """
        blocks = [m for m in self.vqgan.modules() if isinstance(m, ResidualBlock)]
        # One function, so many shapes of it; beyond the limit it would not be compiled at all.
        torch._dynamo.config.recompile_limit = max(64, 4 * len(blocks))
        for block in blocks:
            block.compile(dynamic=False)

    def _codes_are_due(self) -> bool:
        start = self.config.freeze_codes_at
        return start is not None and self.step >= start

    def _freeze_codes(self) -> None:
        self.frozen = True
        for part in (self.vqgan.encoder, self.vqgan.quant_conv, self.vqgan.quantize):
            part.requires_grad_(False)

    def _reconstruct(self, pixels: Tensor) -> tuple[Tensor, Quantized]:
        with autocast(self.device, self.dtype):
            with torch.set_grad_enabled(not self.frozen):
                quantized = self.vqgan.encode(pixels)
            reconstructed = self.vqgan.decode(quantized.latents)
        return reconstructed.float(), quantized

    def _reconstructed_rows(self, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, their reconstructions and codes, by the averaged weights, on the CPU."""
        pixels = self.cache.batch(rows, self.config.architecture.image_channels)
        parts = [self.average.network(p.to(self.device)) for p in pixels.split(4)]
        reconstructed = torch.cat([r.float().cpu().clamp(-1, 1) for r, _ in parts])
        return pixels, reconstructed, torch.cat([q.codes.cpu() for _, q in parts])

    def _reconstruction_term(
        self, pixels: Tensor, reconstructed: Tensor, metrics: dict[str, float]
    ) -> Tensor:
        config = self.config
        seen = [losses.blurred(p, config.reconstruction_blur) for p in (pixels, reconstructed)]
        pixel_loss = losses.reconstruction_loss(*seen)
        edge_loss = losses.gradient_loss(*seen)
        metrics |= {"l1": pixel_loss.item(), "edge": edge_loss.item()}
        total = pixel_loss + config.gradient_weight * edge_loss
        if config.texture_weight:
            texture = losses.texture_loss(pixels, reconstructed)
            metrics["texture"] = texture.item()
            total = total + config.texture_weight * texture
        return total

    def _feature_term(
        self, pixels: Tensor, reconstructed: Tensor, metrics: dict[str, float]
    ) -> Tensor:
        config = self.config
        total = torch.zeros((), device=self.device)
        for path, network in self.networks.items():
            with autocast(self.device, self.dtype):
                with torch.no_grad():
                    real = network.maps(pixels)
                maps = network.maps(reconstructed)
            if config.perceptual_weight and path == config.perceptual_network:
                perceptual = losses.perceptual_distance(real, maps)
                metrics["perceptual"] = perceptual.item()
                total = total + config.perceptual_weight * perceptual
            if config.clinical_weight and path == config.clinical_network:
                clinical = losses.clinical_distance(real, maps)
                metrics["clinical"] = clinical.item()
                total = total + config.clinical_weight * clinical
        return total

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.vqgan.parameters(), 1.0)
        # One such step would spoil every weight, and the next save the state.
        if not norm.isfinite():
            raise FloatingPointError(f"the gradient of step {self.step} is not finite")
        self.optimizer.step()

    def _generator_term(
        self,
        pixels: Tensor,
        reconstructed: Tensor,
        reconstruction: Tensor,
        metrics: dict[str, float],
    ) -> Tensor:
        config = self.config
        self.discriminator.requires_grad_(False)
        with autocast(self.device, self.dtype):
            maps = self.discriminator.maps(reconstructed)
        adversarial = losses.adversarial_loss(maps[-1].float())
        weight = losses.adaptive_weight(
            reconstruction,
            adversarial,
            self.vqgan.decoder.conv_out.weight,
            limit=config.adaptive_weight_limit,
        )
        metrics["adv_weight"] = weight.item()
        total = config.adversarial_weight * weight * adversarial
        if config.feature_matching_weight:
            with autocast(self.device, self.dtype), torch.no_grad():
                real = self.discriminator.maps(pixels)
            matching = losses.feature_matching_loss(real[:-1], maps[:-1])
            metrics["matching"] = matching.item()
            total = total + config.feature_matching_weight * matching
        return total

    def _discriminator_step(self, real: Tensor, fake: Tensor) -> float:
        self.discriminator.requires_grad_(True)
        with autocast(self.device, self.dtype):
            logits = self.discriminator(torch.cat([real, fake])).float()
        loss = losses.hinge_discriminator_loss(logits[: len(real)], logits[len(real) :])
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimizer.step()
        return loss.item()

    def _learning_rate_share(self) -> float:
        config = self.config
        return warm_cosine(
            self.step, config.warmup_steps, config.steps, config.final_learning_rate_share
        )


def _optimizer(config: VqGanTraining, vqgan: VqGan) -> torch.optim.Adam:
    """All weights at the run's learning rate, but for the amounts of noise."""
    trained = {name: p for name, p in vqgan.named_parameters() if p.requires_grad}
    noise = [p for name, p in trained.items() if name.startswith(_NOISE)]
    others = [p for name, p in trained.items() if not name.startswith(_NOISE)]
    groups = [{"params": others, "peak": config.learning_rate}]
    if noise:
        peak = config.learning_rate * config.noise_learning_rate_factor
        groups.append({"params": noise, "peak": peak})
    return torch.optim.Adam(groups, lr=config.learning_rate, betas=(0.5, 0.9))


def _prepared_otherwise(folder: Path) -> DataError:
    return DataError(f"the radiographs of {folder} are prepared otherwise")


def _on_cpu(quantized: Quantized) -> Quantized:
    return Quantized(*(tensor.detach().cpu() for tensor in quantized))
