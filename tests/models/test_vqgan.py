"""The VQ-GAN: shapes, the released weights' key names, gradients, configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.vqgan import VectorQuantizer, VqGan, VqGanConfig


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Size]:
    """Parameter shapes of the published geometry, without allocating it."""
    with torch.device("meta"):
        model = VqGan(VqGanConfig())
    return {name: value.shape for name, value in model.state_dict().items()}


def test_shapes(vqgan: VqGan) -> None:
    pixels = torch.rand(2, 1, 16, 16) * 2 - 1
    reconstruction, quantized = vqgan(pixels)
    assert reconstruction.shape == pixels.shape
    assert quantized.codes.shape == (2, 4, 4)
    assert quantized.codes.dtype == torch.int64
    assert quantized.latents.shape == quantized.encoded.shape == (2, 4, 4, 4)
    assert vqgan.decode_codes(quantized.codes).shape == pixels.shape


def test_codes_say_everything_about_the_reconstruction(vqgan: VqGan) -> None:
    reconstruction, quantized = vqgan(torch.rand(2, 1, 16, 16) * 2 - 1)
    torch.testing.assert_close(
        vqgan.decode_codes(quantized.codes), reconstruction, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("encoder.conv_in.weight", (128, 3, 3, 3)),
        ("encoder.down.0.block.0.conv1.weight", (128, 128, 3, 3)),
        ("encoder.down.0.downsample.conv.weight", (128, 128, 3, 3)),
        ("encoder.down.2.block.0.nin_shortcut.weight", (256, 128, 1, 1)),
        ("encoder.down.4.attn.1.proj_out.bias", (512,)),
        ("encoder.mid.attn_1.q.weight", (512, 512, 1, 1)),
        ("encoder.norm_out.weight", (512,)),
        ("encoder.conv_out.weight", (256, 512, 3, 3)),
        ("decoder.conv_in.weight", (512, 256, 3, 3)),
        ("decoder.mid.block_2.norm2.bias", (512,)),
        ("decoder.up.4.attn.2.norm.weight", (512,)),
        ("decoder.up.4.block.2.conv2.weight", (512, 512, 3, 3)),
        ("decoder.up.4.upsample.conv.weight", (512, 512, 3, 3)),
        ("decoder.up.0.block.0.conv1.weight", (128, 128, 3, 3)),
        ("decoder.conv_out.weight", (3, 128, 3, 3)),
        ("quantize.embedding.weight", (1024, 256)),
        ("quant_conv.weight", (256, 256, 1, 1)),
        ("post_quant_conv.bias", (256,)),
    ],
)
def test_key_names_are_the_public_implementations(
    published: dict[str, torch.Size], key: str, shape: tuple[int, ...]
) -> None:
    assert published[key] == shape


def test_nothing_more_than_the_public_implementation_has(published: dict[str, Any]) -> None:
    assert "encoder.down.4.downsample.conv.weight" not in published
    assert "decoder.up.0.upsample.conv.weight" not in published
    assert not any(key.startswith("encoder.down.3.attn") for key in published)
    assert VqGanConfig().grid_size == 16
    assert VqGanConfig().downsampling == 16


def test_nearest_codebook_vector_is_the_nearest() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(50, 6)
    nn.init.normal_(quantizer.embedding.weight)
    vectors = torch.randn(200, 6)
    expected = torch.cdist(vectors, quantizer.embedding.weight).argmin(1)
    assert torch.equal(quantizer.nearest(vectors), expected)


def test_gradients_pass_straight_through() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 4)
    encoded = torch.randn(1, 4, 3, 3, requires_grad=True)
    quantized = quantizer(encoded)
    weights = torch.randn_like(quantized.latents)
    (quantized.latents * weights).sum().backward()
    assert encoded.grad is not None
    torch.testing.assert_close(encoded.grad, weights)
    assert quantizer.embedding.weight.grad is None


def test_latents_are_codebook_vectors(vqgan: VqGan) -> None:
    quantized = vqgan.encode(torch.rand(1, 1, 16, 16))
    vectors = vqgan.quantize.embedding(quantized.codes).permute(0, 3, 1, 2)
    torch.testing.assert_close(quantized.latents, vectors, atol=1e-6, rtol=1e-5)


def test_one_picture_has_the_same_codes_alone_and_in_a_batch(vqgan: VqGan) -> None:
    pixels = torch.rand(4, 1, 16, 16) * 2 - 1
    with torch.inference_mode():
        together = vqgan.encode(pixels).codes
        alone = torch.cat([vqgan.encode(one.unsqueeze(0)).codes for one in pixels])
    assert torch.equal(together, alone)


def test_config_round_trip() -> None:
    config = VqGanConfig(image_size=64, channel_multipliers=(1, 2), attention_resolutions=())
    assert VqGanConfig.from_dict(config.to_dict()) == config


def test_a_manifest_says_only_what_is_not_published() -> None:
    assert not {"upsampling", "decoder_noise"} & VqGanConfig().to_dict().keys()
    config = VqGanConfig(upsampling="bilinear", decoder_noise=True)
    assert VqGanConfig.from_dict(config.to_dict()) == config


def test_noise_is_silent_at_first_and_always_the_same(vqgan: VqGan) -> None:
    noisy = VqGan(replace(vqgan.config, decoder_noise=True)).eval()
    missing, unexpected = noisy.load_state_dict(vqgan.state_dict(), strict=False)
    assert unexpected == []
    assert all(name.startswith("decoder.noise.") for name in missing)
    codes = vqgan.encode(torch.rand(2, 1, 16, 16) * 2 - 1).codes
    torch.testing.assert_close(noisy.decode_codes(codes), vqgan.decode_codes(codes))
    for noise in noisy.decoder.noise:
        nn.init.ones_(noise.amount)
    loud = noisy.decode_codes(codes)
    assert not torch.allclose(loud, vqgan.decode_codes(codes), atol=1e-3)
    assert torch.equal(noisy.decode_codes(codes), loud)
    with torch.autocast("cpu", torch.bfloat16):
        assert noisy.decode_codes(codes).isfinite().all()


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upsampling_is_that_of_interpolate(upsampling: str, dtype: torch.dtype) -> None:
    config = VqGanConfig(
        image_size=8,
        base_channels=4,
        channel_multipliers=(1, 1),
        attention_resolutions=(),
        norm_groups=2,
        upsampling=upsampling,
    )
    upsample = VqGan(config).decoder.up[1].upsample
    assert upsample is not None
    upsample = upsample.to(dtype)
    x = torch.rand(2, 4, 3, 5, dtype=dtype)
    expected = upsample.conv(nn.functional.interpolate(x, scale_factor=2.0, mode=upsampling))
    assert torch.equal(upsample(x), expected)


@pytest.mark.parametrize(
    "values",
    [
        {"upsampling": "cubic"},
        {"image_channels": 2},
        {"image_size": 100},
        {"base_channels": 100},
        {"colour": "blue"},
    ],
)
def test_impossible_configs_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidCheckpoint):
        VqGanConfig.from_dict(values)
