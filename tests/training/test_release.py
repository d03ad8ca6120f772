"""publish and assemble: the merged checkpoint is what was trained, whole, or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.training.conftest import DataSet, config_maker, write_vqgan
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmcxr_models.checkpoint import Checkpoint, hash_files, read_manifest
from llmcxr_models.errors import DigestMismatch, InvalidCheckpoint
from llmcxr_training.base_model import BaseModelError, load_base
from llmcxr_training.data import DataError
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.merge import Delta, DeltaError, merge
from llmcxr_training.release import assemble, publish
from llmcxr_training.run_state import save_state
from llmcxr_training.stage import TOKENIZER_FOLDER, finetune, grow
from llmcxr_training.trained_vqgan import TrainedVqGan


@dataclass(frozen=True)
class Released:
    """A published run with the model that it came from."""

    config: Finetuning
    model: ImageTextModel
    release: Path

    @property
    def base(self) -> Path:
        return self.config.base


@pytest.fixture(scope="module")
def original(
    data_set: DataSet, base_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Released:
    folder = tmp_path_factory.mktemp("released")
    return _release(config_maker(folder, data_set, base_folder)(), folder)


@pytest.fixture
def released(original: Released, tmp_path: Path) -> Released:
    """With a release directory of its own, free to be tampered with."""
    shutil.copytree(original.release, tmp_path / "release")
    return replace(original, release=tmp_path / "release")


def _release(config: Finetuning, tmp_path: Path) -> Released:
    """As after a stage of fine-tuning, but with random weights in place of trained ones."""
    vqgan = TrainedVqGan.load(config.vqgan).vqgan
    grown = grow(config.base, vqgan, config.template, tmp_path / "scratch")
    grown.tokenizer.save_pretrained(config.output / TOKENIZER_FOLDER)
    model = ImageTextModel(grown.model, grown.vocabulary, config.lora)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.trained_state().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save_state(config.output, {"model": model.trained_state(), "step": 3, "seconds": 1.0})
    publish(config, tmp_path / "release", name="tiny", version="0.0.1", max_model_len=512)
    return Released(config, model.eval(), tmp_path / "release")


def test_release_is_small_and_complete(released: Released) -> None:
    names = {p.relative_to(released.release).as_posix() for p in released.release.rglob("*")}
    assert {"manifest.json", "delta.safetensors", "vqgan.safetensors"} < names
    assert {"llm/config.json", "llm/tokenizer.json", "llm/tokenizer_config.json"} < names
    assert "llm/model.safetensors" not in names
    assert not [p for p in released.release.parent.iterdir() if p.name.startswith("tmp")]


@pytest.mark.parametrize("family", ["llama", "neox"])
def test_assembled_logits_are_the_trained_model_s(
    family: str, make_config: Callable[..., Finetuning], neox_folder: Path, tmp_path: Path
) -> None:
    changed = {"base": neox_folder} if family == "neox" else {}
    released = _release(make_config(**changed), tmp_path)
    checkpoint = assemble(released.release, released.base, tmp_path / "checkpoint")
    _served_is_trained(Checkpoint.open(checkpoint.path), released.model)


@pytest.mark.parametrize("family", ["llama", "neox"])
def test_a_run_without_adapters_becomes_a_checkpoint_at_once(
    family: str, make_config: Callable[..., Finetuning], neox_folder: Path, tmp_path: Path
) -> None:
    changed = {"base": neox_folder} if family == "neox" else {}
    config = make_config(lora=None, **changed)
    for _ in range(2):  # the second time over the first
        released = _release(config, tmp_path)
    checkpoint = Checkpoint.open(released.release)
    _served_is_trained(checkpoint, released.model)
    assert not (released.release / "delta.safetensors").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InvalidCheckpoint, match="left alone"):
        publish(config, tmp_path / "mine", name="tiny", version="1", max_model_len=512)


def _served_is_trained(checkpoint: Checkpoint, model: ImageTextModel) -> None:
    vocabulary = checkpoint.manifest.vocabulary
    served = AutoModelForCausalLM.from_pretrained(checkpoint.llm_path, dtype=torch.float32)
    assert not served.config.tie_word_embeddings
    assert served.get_input_embeddings().weight.shape[0] == vocabulary.size
    generator = torch.Generator().manual_seed(1)
    token_ids = torch.randint(vocabulary.size, (2, 20), generator=generator)
    with torch.no_grad():
        logits = served(input_ids=token_ids).logits
        hidden = model.hidden_states(token_ids)
        expected = torch.cat([model.text_logits(hidden), model.image_logits(hidden)], dim=-1)
    spread = float(expected.std())
    assert spread > 0.1
    torch.testing.assert_close(logits, expected, rtol=0.0, atol=0.05 * spread)


def test_checkpoint_is_what_the_service_opens(released: Released, tmp_path: Path) -> None:
    path = assemble(released.release, released.base, tmp_path / "checkpoint").path
    checkpoint = Checkpoint.open(path)
    builder = checkpoint.load_prompts()
    checkpoint.load_vqgan()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.llm_path)
    assert len(tokenizer) == checkpoint.manifest.vocabulary.size
    prompt = builder.report([0] * checkpoint.manifest.vocabulary.image_length)
    assert tokenizer.decode(prompt.token_ids).startswith("<|im_start|>user\n<|image_0000|>")
    assert checkpoint.manifest.max_model_len == 512


def test_other_users_may_read_everything(released: Released, tmp_path: Path) -> None:
    checkpoint = assemble(released.release, released.base, tmp_path / "checkpoint")
    for folder in (released.release, checkpoint.path):
        assert all(p.stat().st_mode & 0o044 == 0o044 for p in folder.rglob("*"))
    assert checkpoint.path.stat().st_mode & 0o055 == 0o055


def test_merging_does_not_depend_on_threads(released: Released) -> None:
    model, _ = load_base(released.base, released.release)
    delta = Delta.load(released.release / "delta.safetensors")
    one = merge(model, delta, 320)
    torch.set_num_threads(2)
    two = merge(model, delta, 320)
    torch.set_num_threads(1)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_assembling_twice_gives_the_same_bytes(released: Released, tmp_path: Path) -> None:
    one, two = (assemble(released.release, released.base, tmp_path / n).path for n in ("a", "b"))
    assert hash_files(one) == hash_files(two)
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()


def test_a_second_assembly_does_nothing(released: Released, tmp_path: Path) -> None:
    output = tmp_path / "checkpoint"
    assemble(released.release, released.base, output)
    before = _state(output)
    # The base model is not even looked for.
    assemble(released.release, tmp_path / "no-such-base", output)
    assert _state(output) == before


def test_a_damaged_checkpoint_is_made_again(released: Released, tmp_path: Path) -> None:
    output = assemble(released.release, released.base, tmp_path / "checkpoint").path
    with (output / "llm" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(DigestMismatch):
        Checkpoint.open(output)
    assemble(released.release, released.base, output)
    Checkpoint.open(output)


@pytest.mark.parametrize("what", ["delta", "vqgan", "base"])
def test_tampering_is_found_and_the_old_output_stays(
    what: str, released: Released, tmp_path: Path
) -> None:
    output = assemble(released.release, released.base, tmp_path / "checkpoint").path
    # The output is of another release, so there is something to assemble.
    (output / "llm" / "config.json").write_text("{}")
    before = _state(output)
    base = tmp_path / "base"
    shutil.copytree(released.base, base)
    file = {
        "delta": released.release / "delta.safetensors",
        "vqgan": released.release / "vqgan.safetensors",
        "base": base / "model.safetensors",
    }[what]
    tensors = load_file(file)
    name = max(tensors, key=lambda n: tensors[n].numel())
    tensors[name].view(-1)[3] += 0.5
    save_file(tensors, file, metadata={"format": "pt", "scaling": "2.0"})
    with pytest.raises(DigestMismatch):
        assemble(released.release, base, output)
    assert _state(output) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".checkpoint")]


@pytest.mark.parametrize("what", ["delta", "base"])
def test_a_truncated_file_is_refused_in_one_sentence(
    what: str, released: Released, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(released.base, base)
    file = {
        "delta": released.release / "delta.safetensors",
        "base": base / "model.safetensors",
    }[what]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises((DeltaError, BaseModelError)):
        assemble(released.release, base, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_another_base_model_is_refused(
    released: Released, neox_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DeltaError):
        assemble(released.release, neox_folder, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_a_folder_of_somebody_s_is_not_replaced(released: Released, tmp_path: Path) -> None:
    output = tmp_path / "thesis"
    output.mkdir()
    (output / "chapter-1.txt").write_text("years of work")
    with pytest.raises(InvalidCheckpoint):
        assemble(released.release, released.base, output)
    assert (output / "chapter-1.txt").read_text() == "years of work"


def test_an_empty_folder_is_filled(released: Released, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    assemble(released.release, released.base, tmp_path / "checkpoint")
    Checkpoint.open(tmp_path / "checkpoint")


def test_publishing_again_replaces_the_release(released: Released, tmp_path: Path) -> None:
    first = read_manifest(released.release)
    publish(released.config, released.release, name="tiny", version="0.0.1", max_model_len=512)
    assert read_manifest(released.release).files == first.files
    publish(released.config, released.release, name="tiny", version="0.0.2", max_model_len=512)
    assert read_manifest(released.release).version == "0.0.2"


def test_a_vqgan_that_was_trained_on_is_not_published(
    make_config: Callable[..., Finetuning], tmp_path: Path
) -> None:
    released = _release(make_config(), tmp_path)
    other = write_vqgan(tmp_path / "other", seed=8)
    (other / "vqgan.safetensors").replace(released.config.vqgan / "vqgan.safetensors")
    before = _state(released.release)
    with pytest.raises(DataError, match="another VQ-GAN"):
        publish(released.config, released.release, name="x", version="2", max_model_len=512)
    assert _state(released.release) == before


def test_a_delta_of_other_layers_or_shapes_is_refused(
    released: Released, make_model: Callable[..., object]
) -> None:
    delta = Delta.load(released.release / "delta.safetensors")
    assert delta.scaling == 2.0
    with pytest.raises(DeltaError):
        merge(make_model("neox", 320), delta, 300)
    layer = next(n for n in delta.tensors if n.endswith("down_proj.lora_A"))
    wrong = dict(delta.tensors) | {layer: delta.tensors[layer][:, :5]}
    with pytest.raises(DeltaError):
        merge(make_model("llama", 320), Delta(wrong, 2.0), 300)


def test_full_fine_tuning_has_no_small_delta(released: Released) -> None:
    grown = grow(
        released.base, TrainedVqGan.load(released.config.vqgan).vqgan, "smollm2", released.release
    )
    with pytest.raises(DeltaError):
        Delta.of(ImageTextModel(grown.model, grown.vocabulary, None))


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def test_a_stage_starts_from_a_release(released: Released, tmp_path: Path) -> None:
    start = {"initial": released.release, "output": tmp_path / "on", "steps": 0}
    run = finetune(released.config.model_copy(update=start))
    wanted = {n: t.to(torch.bfloat16).float() for n, t in released.model.trained_state().items()}
    assert wanted.keys() == run.model.trained_state().keys()
    assert all(torch.equal(t, wanted[n]) for n, t in run.model.trained_state().items())


def test_a_release_of_other_codes_or_adapters_is_no_start(
    released: Released, tmp_path: Path
) -> None:
    config = released.config.model_copy(
        update={"initial": released.release, "output": tmp_path / "on", "steps": 0}
    )
    other = write_vqgan(tmp_path / "other", seed=8)
    with pytest.raises(DataError, match="another VQ-GAN"):
        finetune(config.model_copy(update={"vqgan": other}))
    assert config.lora is not None
    louder = config.lora.model_copy(update={"alpha": 3 * config.lora.alpha})
    with pytest.raises(DeltaError, match="other adapters"):
        finetune(config.model_copy(update={"lora": louder}))
