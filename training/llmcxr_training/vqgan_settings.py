"""Everything that a VQ-GAN run depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmcxr_models.preprocess import Preprocessing
from llmcxr_training.encode_images import Augmentation
from llmcxr_training.image_training import ImageTraining
from llmcxr_training.precision import Precision


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
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    decoder_noise: bool = False


class VqGanTraining(ImageTraining):
    """Everything that a VQ-GAN run depends on.

    Attributes:
        initial: run folder, release or checkpoint of the same architecture whose weights this
            run starts from, and whose discriminator where it has one; a decoder's noise may be
            new.
        steps: optimiser steps in all.
        noise_learning_rate_factor: how much faster than all else the amounts of the decoder's noise
            learn: they begin at zero, and are few.
        adversarial_start: step from which the discriminator learns.
        discriminator_head_start: steps that it learns before the VQ-GAN hears of it. One that
            starts together with the VQ-GAN's adversarial term is fooled before it has learnt
            anything, and its adaptive weight then amplifies noise.
        reconstruction_blur: standard deviation, in pixels, of the Gaussian through which the
            differences of pixels and of their gradients are seen; 0 for none. Finer structure is
            left to texture and adversary: of what cannot be in quite the right place, these
            differences would rather have nothing.
        gradient_weight: of the difference of first spatial differences.
        texture_weight: of the difference of local contrast; see `texture_loss`.
        perceptual_network: judge's folder or TorchXRayVision file for the perceptual term.
        clinical_network: the same for the clinical term.
        feature_matching_weight: of the distance of the discriminator's features; heard when the
            adversarial term is.
        average_decay: of the running mean of the weights, which is validated and exported.
        freeze_codes_at: step from which encoder and codebook stand still and the decoder learns
            on, at half the price; the codes of then are final.
        compile: generate code for this processor first (needs a C++ compiler, or Triton).
        save_every_seconds: a killed run loses at most this much.
    """

    initial: Path | None = None
    architecture: VqGanArchitecture = VqGanArchitecture()
    steps: int = 4000
    batch_size: int = 4
    learning_rate: float = 8e-4
    noise_learning_rate_factor: float = 10.0
    warmup_steps: int = 50
    final_learning_rate_share: float = 0.1
    reconstruction_blur: float = Field(default=0.0, ge=0.0)
    gradient_weight: float = 1.0
    texture_weight: float = 0.0
    perceptual_network: Path | None = None
    perceptual_weight: float = 0.0
    clinical_network: Path | None = None
    clinical_weight: float = 0.0
    commitment_weight: float = 0.25
    codebook_decay: float = 0.99
    codebook_revive_below: float = 0.3
    adversarial_start: int = 1500
    adversarial_weight: float = 0.25
    feature_matching_weight: float = 0.0
    adaptive_weight_limit: float = 10.0
    discriminator_head_start: int = 100
    discriminator_learning_rate: float = 1e-3
    average_decay: float = 0.998
    freeze_codes_at: int | None = None
    augmentation: Augmentation = Augmentation()
    device: str = "auto"
    precision: Precision = "auto"
    compile: bool = False
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

    @model_validator(mode="after")
    def _weighted_terms_have_networks(self) -> VqGanTraining:
        for term in ("perceptual", "clinical"):
            if getattr(self, f"{term}_weight") and getattr(self, f"{term}_network") is None:
                raise ValueError(f"{term}_weight needs {term}_network")
        return self
