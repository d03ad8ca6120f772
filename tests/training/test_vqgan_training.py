"""Training the image tokenizer: losses, codebook, resumption and what is left for the service."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import TINY_VQGAN, DataSet, write_lines, write_record
from torch import Tensor

from llmcxr_models.checkpoint import VQGAN_WEIGHTS, Manifest, hash_files, write_manifest
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_models.vqgan import Quantized
from llmcxr_training import vqgan_losses as losses
from llmcxr_training.codebook import CodebookAverages
from llmcxr_training.data import DataError
from llmcxr_training.datasets import JsonlData
from llmcxr_training.discriminator import PatchDiscriminator, detail
from llmcxr_training.encode_images import Augmentation
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.run_state import load_state, seed_everything
from llmcxr_training.train_vqgan import VqGanRun, train_vqgan
from llmcxr_training.trained_vqgan import TrainedVqGan
from llmcxr_training.vqgan_settings import VqGanTraining


def config(data_set: DataSet, output: Path, **changed: Any) -> VqGanTraining:
    settings: dict[str, Any] = {
        "data": JsonlData(manifest=data_set.manifest),
        "output": output,
        "architecture": TINY_VQGAN.to_dict(),
        "steps": 6,
        "batch_size": 2,
        "learning_rate": 2e-3,
        "warmup_steps": 0,
        "final_learning_rate_share": 1.0,
        "adversarial_start": 2,
        "discriminator_head_start": 1,
        "augmentation": Augmentation(shift_pixels=1),
        "device": "cpu",
        "precision": "float32",
    }
    return VqGanTraining.model_validate(settings | changed)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def test_a_resumed_run_is_the_uninterrupted_one(data_set: DataSet, tmp_path: Path) -> None:
    train_vqgan(config(data_set, tmp_path / "whole"))
    for steps in (1, 3, 5, 6):  # before and after the discriminator has joined, and is heard
        train_vqgan(config(data_set, tmp_path / "parts", steps=steps))
    one, other = (load_state(tmp_path / n) for n in ("whole", "parts"))
    assert one is not None
    assert other is not None
    assert same(one | {"seconds": 0}, other | {"seconds": 0})
    whole, parts = ((tmp_path / n / "vqgan.safetensors").read_bytes() for n in ("whole", "parts"))
    assert whole == parts


def test_the_loss_falls_and_pictures_come_back(data_set: DataSet, tmp_path: Path) -> None:
    run = prepared(config(data_set, tmp_path / "run", steps=30, adversarial_start=1000))
    before = run.validate()
    first = run.train_step()
    for _ in range(29):
        run.step += 1
        last = run.train_step()
    after = run.validate()
    assert last["l1"] < 0.9 * first["l1"]
    assert after["val_psnr_db"] > before["val_psnr_db"] + 0.5


def test_a_decoder_learns_on_with_noise_from_another_run(data_set: DataSet, tmp_path: Path) -> None:
    first = config(data_set, tmp_path / "first", freeze_codes_at=4)
    train_vqgan(first)
    architecture = TINY_VQGAN.to_dict() | {"decoder_noise": True}
    changed = {"initial": first.output, "freeze_codes_at": 0, "architecture": architecture}
    train_vqgan(config(data_set, tmp_path / "second", steps=0, **changed))
    start = TrainedVqGan.load(tmp_path / "second").vqgan
    pixels = torch.rand(1, 1, TINY_VQGAN.image_size, TINY_VQGAN.image_size)
    one, other = TrainedVqGan.load(first.output), start
    torch.testing.assert_close(other(pixels)[0], one.vqgan(pixels)[0])
    train_vqgan(config(data_set, tmp_path / "second", steps=3, **changed))
    learnt = TrainedVqGan.load(tmp_path / "second")
    assert learnt.code_digest == one.code_digest
    assert all(noise.amount.any() for noise in learnt.vqgan.decoder.noise)
    assert torch.equal(learnt.vqgan.decoder.noise[0].pattern, start.decoder.noise[0].pattern)


def write_manifest_of(trained: TrainedVqGan, run: Path, release: Path) -> Path:
    """A directory with the VQ-GAN of `run` as a release has it."""
    shape = trained.vqgan.config
    release.mkdir()
    shutil.copyfile(run / VQGAN_WEIGHTS, release / VQGAN_WEIGHTS)
    manifest = Manifest(
        name="tiny",
        version="0.0.1",
        template="smollm2",
        vocabulary=Vocabulary(
            size=shape.codebook_size + 9,
            image_offset=9,
            codebook_size=shape.codebook_size,
            image_length=shape.grid_size**2,
            stop_token_ids=(2,),
        ),
        vqgan=shape,
        preprocessing=trained.preprocessing,
        views=("frontal",),
        max_model_len=512,
        files=hash_files(release),
    )
    write_manifest(release, manifest)
    return release


def test_a_release_s_decoder_learns_on(data_set: DataSet, tmp_path: Path) -> None:
    first = config(data_set, tmp_path / "first", freeze_codes_at=4)
    train_vqgan(first)
    one = TrainedVqGan.load(first.output)
    release = write_manifest_of(one, first.output, tmp_path / "release")
    learnt_on = config(data_set, tmp_path / "on", initial=release, freeze_codes_at=0, steps=2)
    train_vqgan(learnt_on)
    learnt = TrainedVqGan.load(learnt_on.output)
    assert learnt.code_digest == one.code_digest
    assert not same(learnt.vqgan.state_dict(), one.vqgan.state_dict())
    run = prepared(config(data_set, tmp_path / "free", initial=release))
    run.resume()
    assert torch.equal(run.codebook.sums, one.vqgan.quantize.embedding.weight)
    with pytest.raises(DataError, match="prepared otherwise"):
        train_vqgan(config(data_set, tmp_path / "other", initial=release, geometry="centre-crop"))


def test_a_start_from_no_run_or_from_another_kind_is_refused(
    data_set: DataSet, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no state"):
        train_vqgan(config(data_set, tmp_path / "run", initial=tmp_path / "none"))
    first = config(data_set, tmp_path / "first", steps=1)
    train_vqgan(first)
    wider = TINY_VQGAN.to_dict() | {"res_blocks": 3}
    with pytest.raises(DataError, match="another architecture"):
        train_vqgan(config(data_set, tmp_path / "run", initial=first.output, architecture=wider))
    cut = {"initial": first.output, "geometry": "centre-crop"}
    with pytest.raises(DataError, match="prepared otherwise"):
        train_vqgan(config(data_set, tmp_path / "run", **cut))


def test_a_changed_discriminator_learning_rate_is_obeyed(data_set: DataSet, tmp_path: Path) -> None:
    train_vqgan(config(data_set, tmp_path / "run", steps=1))
    changed = config(data_set, tmp_path / "run", steps=1, discriminator_learning_rate=0.5)
    train_vqgan(changed)
    state = load_state(tmp_path / "run")
    assert state is not None
    assert state["discriminator_optimizer"]["param_groups"][0]["lr"] == 0.5


def test_a_run_that_diverges_stops_and_keeps_its_state(data_set: DataSet, tmp_path: Path) -> None:
    train_vqgan(config(data_set, tmp_path / "run", steps=1))
    with pytest.raises(FloatingPointError, match="step"):
        train_vqgan(config(data_set, tmp_path / "run", steps=9, learning_rate=1e30))
    state = load_state(tmp_path / "run")
    assert state is not None
    assert state["step"] == 1
    assert all(t.isfinite().all() for t in state["vqgan"].values())


def test_the_adversary_joins_and_stays_finite(data_set: DataSet, tmp_path: Path) -> None:
    run = prepared(
        config(data_set, tmp_path / "run", adversarial_start=1, discriminator_head_start=2)
    )
    before = [p.clone() for p in run.discriminator.parameters()]
    joined = []
    for _ in range(5):
        metrics = run.train_step()
        run.step += 1
        assert all(torch.tensor(list(metrics.values())).isfinite())
        joined.append([name in metrics for name in ("disc", "adv_weight")])
    # It learns before the VQ-GAN hears of it.
    assert joined == [[False, False], [True, False], [True, False], [True, True], [True, True]]
    assert 0 < metrics["adv_weight"] <= run.config.adaptive_weight_limit
    after = list(run.discriminator.parameters())
    # Within the margin, the hinge loss has no gradient at the last bias.
    assert sum(torch.equal(a, b) for a, b in zip(before, after, strict=True)) <= 1
    assert all(p.requires_grad for p in after)


def test_what_is_exported_is_what_the_models_package_loads(
    data_set: DataSet, tmp_path: Path
) -> None:
    run = prepared(config(data_set, tmp_path / "run"))
    run.train_step()
    run.export()
    trained = TrainedVqGan.load(tmp_path / "run")
    assert trained.vqgan.config == TINY_VQGAN
    assert trained.preprocessing == run.config.preprocessing
    assert same(trained.vqgan.state_dict(), run.average.network.state_dict())
    tokenizer = ImageTokenizer(trained.vqgan)
    codes = tokenizer.encode(run.cache.batch([0, 1], 1))
    assert codes.shape == (2, TINY_VQGAN.grid_size**2)
    assert tokenizer.decode(codes).shape == (2, 1, 32, 32)


def test_only_training_patients_are_trained_on(data_set: DataSet, tmp_path: Path) -> None:
    run = prepared(config(data_set, tmp_path / "run"))
    assert {run.cache.studies[row].split for row in run.train_rows} == {"train"}
    assert {run.cache.studies[row].split for row in run.val_rows} == {"val"}
    assert len(run.train_rows) + len(run.val_rows) == len(run.cache) == 13


def test_both_splits_are_needed(tmp_path: Path) -> None:
    write_lines(tmp_path / "m.jsonl", [write_record(tmp_path, n) for n in range(3)])
    data = DataSet(tmp_path / "m.jsonl", tmp_path / "none")
    with pytest.raises(DataError, match="val"):
        train_vqgan(config(data, tmp_path / "run"))


def prepared(settings: VqGanTraining) -> VqGanRun:
    """A run before its first step."""
    seed_everything(settings.seed)
    settings.output.mkdir()
    studies = settings.data.studies()
    cache = PixelCache.open(studies, settings.preprocessing, settings.output.parent / "pixels")
    return VqGanRun(settings, cache)


def quantized(encoded: Tensor, codebook: Tensor) -> Quantized:
    """Of vectors (N, dim) as one image of N x 1."""
    codes = torch.cdist(encoded, codebook).argmin(1)
    image = encoded.t().reshape(1, -1, len(encoded), 1)
    return Quantized(image, codes.view(1, -1, 1), image)


def test_codes_move_to_the_means_of_their_vectors() -> None:
    codebook = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    averages = CodebookAverages(codebook, decay=0.5, revive_below=0.0)
    vectors = torch.tensor([[1.0, 0.0], [3.0, 2.0], [11.0, 9.0]])
    for _ in range(40):
        averages.update(quantized(vectors, codebook), torch.Generator())
    torch.testing.assert_close(codebook, torch.tensor([[2.0, 1.0], [11.0, 9.0]]))
    torch.testing.assert_close(averages.counts, torch.tensor([2.0, 1.0]))


def test_one_update_is_the_published_formula() -> None:
    codebook = torch.tensor([[0.0], [10.0]])
    averages = CodebookAverages(codebook, decay=0.9, revive_below=0.0)
    averages.update(quantized(torch.tensor([[1.0], [2.0], [12.0]]), codebook), torch.Generator())
    torch.testing.assert_close(averages.counts, torch.tensor([0.9 + 0.2, 0.9 + 0.1]))
    torch.testing.assert_close(codebook, torch.tensor([[0.3 / 1.1], [(9.0 + 1.2) / 1.0]]))


def test_a_dead_code_moves_onto_a_vector() -> None:
    codebook = torch.tensor([[0.0, 0.0], [100.0, 100.0]])
    averages = CodebookAverages(codebook, decay=0.5, revive_below=0.3)
    vectors = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    revived = [
        averages.update(quantized(vectors, codebook), torch.Generator().manual_seed(n))
        for n in range(2)
    ]
    assert revived == [0, 1]
    assert codebook[1].tolist() in vectors.tolist()
    assert float(averages.counts[1]) == 1.0


def test_averages_come_back() -> None:
    one, other = (CodebookAverages(torch.zeros(2, 1)) for _ in range(2))
    one.update(quantized(torch.tensor([[1.0], [2.0]]), one.codebook), torch.Generator())
    other.load_state_dict(one.state_dict())
    assert same(one.state_dict(), other.state_dict())
    assert not one.codebook.requires_grad


def test_reconstruction_and_gradient_losses() -> None:
    flat, ramp = torch.zeros(2, 1, 4, 4), torch.arange(4.0).expand(2, 1, 4, 4)
    assert float(losses.reconstruction_loss(flat, ramp)) == pytest.approx(1.5)
    assert float(losses.gradient_loss(flat, ramp)) == pytest.approx(1.0)
    # A constant offset costs no edge.
    assert float(losses.gradient_loss(ramp, ramp + 0.5)) == pytest.approx(0.0, abs=1e-6)


def test_commitment_moves_the_encoder_only() -> None:
    codebook = torch.tensor([[0.0], [10.0]], requires_grad=True)
    encoded = torch.tensor([[1.0], [8.0]], requires_grad=True)
    loss = losses.commitment_loss(quantized(encoded, codebook.detach()), codebook)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 4) / 2)
    assert codebook.grad is None
    assert encoded.grad is not None
    assert encoded.grad.flatten().tolist() == pytest.approx([1.0, -2.0])


def test_adversarial_losses() -> None:
    sure, fooled = torch.full((2, 1), 2.0), torch.full((2, 1), -2.0)
    assert float(losses.hinge_discriminator_loss(sure, fooled)) == 0.0
    assert float(losses.hinge_discriminator_loss(fooled, sure)) == pytest.approx(3.0)
    assert float(losses.adversarial_loss(sure)) < float(losses.adversarial_loss(fooled))


def test_the_adaptive_weight_is_the_ratio_of_gradients() -> None:
    layer = torch.ones(3, requires_grad=True)
    weight = losses.adaptive_weight((6 * layer).sum(), (2 * layer).sum(), layer)
    assert float(weight) == pytest.approx(3.0, rel=1e-3)
    assert not weight.requires_grad
    flat = losses.adaptive_weight((6 * layer).sum(), (0 * layer).sum(), layer)
    assert float(flat) == pytest.approx(1e4)


def test_detail_is_what_a_blur_takes_away() -> None:
    ramp = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    assert float(detail(ramp)[..., 3:-3].abs().max()) < 1e-5
    speck = torch.zeros(1, 1, 16, 16)
    speck[..., 8, 8] = 1.0
    assert detail(speck).shape == speck.shape
    assert float(detail(speck)[..., 8, 8]) > 1.0


def test_the_discriminator_judges_patches() -> None:
    logits = PatchDiscriminator(1)(torch.zeros(2, 1, 64, 64))
    assert logits.shape[:2] == (2, 1)
    assert logits.shape[2] > 1
