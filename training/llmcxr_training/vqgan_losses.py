"""The losses of a VQ-GAN. Pure functions of tensors (arXiv 2012.09841, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from llmcxr_models.vqgan import Quantized

_SMALL = 1e-6
_LEAST_CONTRAST = 0.01  # about one grey level: noise below it is not worth a gradient


def blurred(pixels: Tensor, deviation: float) -> Tensor:
    """Through a Gaussian of `deviation` pixels, cut at three of them; (B, C, S, S) as it was."""
    if not deviation:
        return pixels
    reach = math.ceil(3 * deviation)
    places = torch.arange(-reach, reach + 1, dtype=pixels.dtype, device=pixels.device)
    weights = torch.softmax(-places.square() / (2 * deviation**2), dim=0)
    channels = pixels.shape[1]
    row = weights.repeat(channels, 1, 1, 1)
    padded = F.pad(pixels, (reach, reach, reach, reach), mode="reflect")
    along = F.conv2d(padded, row, groups=channels)
    return F.conv2d(along, row.transpose(-1, -2), groups=channels)


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


def perceptual_distance(real: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """Squared distance of feature maps, each position's vector scaled to length 1; mean of layers.

    As LPIPS (Zhang et al., arXiv 1801.03924) with every channel weighted alike.

    Args:
        real: feature maps (B, C_i, h_i, w_i) of the radiographs.
        reconstructed: the same of their reconstructions.
    """
    total = torch.zeros((), device=real[0].device)
    for one, other in zip(real, reconstructed, strict=True):
        difference = _unit_vectors(one) - _unit_vectors(other)
        total = total + difference.square().sum(dim=1).mean()
    return total / len(real)


def clinical_distance(real: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """Relative L1 distance of a radiograph classifier's deepest maps (arXiv 2305.11490, 3.1).

    Relative to the radiographs' own size, so that a weight means the same for any classifier.
    """
    one, other = real[-1].float(), reconstructed[-1].float()
    return F.l1_loss(other, one) / one.abs().mean().clamp_min(_SMALL)


def feature_matching_loss(real: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """Relative L1 distance of a discriminator's feature maps (arXiv 1711.11585, section 3.2).

    A perceptual term that needs no further network, and steadier than the logits.
    """
    total = torch.zeros((), device=real[0].device)
    for one, other in zip(real, reconstructed, strict=True):
        one, other = one.float().detach(), other.float()
        total = total + F.l1_loss(other, one) / one.abs().mean().clamp_min(_SMALL)
    return total / len(real)


def texture_loss(pixels: Tensor, reconstructed: Tensor, *, levels: int = 3) -> Tensor:
    """Relative difference of local contrast: how much structure there is, not where exactly.

    The root mean square of first and of second differences in windows of 4, in both directions,
    at `levels` halved resolutions. Blur lowers it and grid artefacts raise it; a rib that is one
    pixel off costs little here, while L1 then prefers no rib at all. First differences alone
    leave the finest structure out: there is too little power in it.
    """
    total = torch.zeros((), device=pixels.device)
    for level in range(levels):
        if level:
            pixels, reconstructed = F.avg_pool2d(pixels, 2), F.avg_pool2d(reconstructed, 2)
        for axis in (-1, -2):
            one, other = pixels, reconstructed
            for _ in range(2):
                one, other = torch.diff(one, dim=axis), torch.diff(other, dim=axis)
                real, fake = _local_contrast(one), _local_contrast(other)
                total = total + F.l1_loss(fake, real) / real.mean()
    return total / (4 * levels)


def _local_contrast(differences: Tensor) -> Tensor:
    power = F.avg_pool2d(differences.square(), 4, 2, padding=1)
    return (power + _LEAST_CONTRAST**2).sqrt()


def _unit_vectors(maps: Tensor) -> Tensor:
    return F.normalize(maps.float(), dim=1)
