"""The losses of a VQ-GAN. Pure functions of tensors (arXiv 2012.09841, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from llmcxr_models.vqgan import Quantized


def reconstruction_loss(pixels: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean absolute difference of pixels."""
    return F.l1_loss(reconstructed, pixels)


def gradient_loss(pixels: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean absolute difference of the first spatial differences.

    L1 on pixels alone is met by blur; ribs and vessels are edges, and this term prices them.
    """
    total = torch.zeros((), device=pixels.device)
    for axis in (-1, -2):
        total = total + F.l1_loss(torch.diff(reconstructed, dim=axis), torch.diff(pixels, dim=axis))
    return total


def commitment_loss(quantized: Quantized, codebook: Tensor) -> Tensor:
    """Squared distance of the encoder's vectors from their codes; moves the encoder only.

    Args:
        quantized: the quantiser's output.
        codebook: (codebook_size, codebook_dim).
    """
    vectors = codebook[quantized.codes].permute(0, 3, 1, 2).detach()
    return F.mse_loss(quantized.encoded.float(), vectors)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss on the discriminator's logits."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def adversarial_loss(fake: Tensor) -> Tensor:
    """What the generator gains by logits that say "real"."""
    return -fake.mean()


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, *, limit: float = 1e4
) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last layer (arXiv 2012.09841, eq. 7)."""
    (of_reconstruction,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    weight: Tensor = of_reconstruction.norm() / (of_adversarial.norm() + 1e-4)
    return weight.clamp(0.0, limit).detach()
