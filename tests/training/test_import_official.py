"""Official weights come in and go out again with the same codes, pixels and logits."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.training import official_release as official
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXForCausalLM

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import DigestMismatch
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.vocabulary import image_token_name
from llmcxr_models.vqgan import VqGanConfig
from llmcxr_training.__main__ import main
from llmcxr_training.conversion import ConversionError
from llmcxr_training.export_official import export_official
from llmcxr_training.import_official import OfficialRelease, import_official
from llmcxr_training.taming import write_project

OFFSET, ROWS = 50281, 50281 + 1024


@dataclass(frozen=True)
class Original:
    """A release on disk, and what it was made of."""

    release: OfficialRelease
    vqgan: official.Arithmetic
    llm: GPTNeoXForCausalLM


def write_release(
    folder: Path, network: official.Ddconfig, embed_dim: int, dtype: torch.dtype
) -> Original:
    weights = official.random_weights(official.vqgan_shapes(network, embed_dim))
    model = official.make_model(ROWS, dtype)
    official.write_vqgan(folder, network, weights)
    official.write_llm(folder / "dolly", model)
    official.write_tokenizer(folder / "dolly", official.neox_tokenizer())
    release = OfficialRelease(folder / "last.ckpt", folder / "project.yaml", folder / "dolly")
    return Original(release, official.Arithmetic(weights, network), model)


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> Iterator[None]:
    """The published geometry is not small."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Original, Checkpoint]]:
    """The published geometry, and its import; 600 MB, so they go when the module is done."""
    folder = tmp_path_factory.mktemp("published")
    original = write_release(folder, official.Ddconfig(), 256, torch.bfloat16)
    yield original, import_official(original.release, folder / "ours", name="x", version="1")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """The same with a small VQ-GAN and a float32 model; nobody may write to it."""
    return write_release(tmp_path_factory.mktemp("small"), official.SMALL, 8, torch.float32)


@pytest.fixture(scope="module")
def imported(small: Original, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    output = tmp_path_factory.mktemp("imported") / "ours"
    return import_official(small.release, output, name="x", version="1")


@pytest.fixture
def broken(small: Original, tmp_path: Path) -> Iterator[OfficialRelease]:
    """A copy of the small release that may be damaged; 20 MB, so it goes with its test."""
    folder = tmp_path / "release"
    shutil.copytree(small.release.llm.parent, folder)
    yield OfficialRelease(folder / "last.ckpt", folder / "project.yaml", folder / "dolly")
    shutil.rmtree(folder)


def pictures(side: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, 1, 8, 8, generator=generator).mul(2).sub(1)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return smooth.repeat(1, 3, 1, 1)


def logits(model: Any, token_ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(torch.tensor([token_ids])).logits
    return result


def load_llm(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def load_weights(release: OfficialRelease) -> dict[str, torch.Tensor]:
    opened: dict[str, Any] = torch.load(release.vqgan, weights_only=True)
    weights: dict[str, torch.Tensor] = opened["state_dict"]
    return weights


# --- Import ---------------------------------------------------------------------------------


def test_codes_pixels_and_logits_are_the_originals(published: Any) -> None:
    original, checkpoint = published
    checkpoint = Checkpoint.open(checkpoint.path)  # digests checked
    assert checkpoint.manifest.vqgan == VqGanConfig()
    vqgan = checkpoint.load_vqgan().eval()
    pixels = pictures(256)
    with torch.inference_mode():
        codes = original.vqgan.encode(pixels)
        assert len(codes.unique()) > 20
        assert torch.equal(vqgan.encode(pixels).codes.flatten(1), codes)
        # A quarter of the picture: every weight is used, and it takes a quarter of the time.
        corner = codes.view(1, 16, 16)[:, :8, :8]
        torch.testing.assert_close(
            vqgan.decode_codes(corner),
            original.vqgan.decode(corner.flatten(1)),
            rtol=1e-4,
            atol=1e-4,
        )
    prompt = list(checkpoint.load_prompts().report(codes[0].tolist()).token_ids)
    assert [OFFSET + code for code in codes[0].tolist()] == [i for i in prompt if i >= OFFSET]
    ours = load_llm(checkpoint.llm_path)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(logits(ours, prompt), logits(original.llm, prompt))


def test_the_manifest_says_what_it_is(imported: Checkpoint) -> None:
    manifest = Checkpoint.open(imported.path).manifest
    assert manifest == imported.manifest
    assert (manifest.template, manifest.max_model_len) == ("dolly", 2048)
    assert manifest.views == ("frontal",)
    assert manifest.preprocessing == Preprocessing(
        Pipeline.MIMIC, Geometry.CENTRE_CROP, image_size=32, channels=3
    )
    assert manifest.vocabulary.image_token_ids == range(OFFSET, ROWS)
    assert manifest.vocabulary.size == ROWS
    assert manifest.vocabulary.stop_token_ids == (imported.load_tokenizer().token_id("### End"),)
    assert set(manifest.files) == {
        "vqgan.safetensors",
        *(f"llm/{name}.json" for name in ("config", "generation_config", "tokenizer")),
        *(f"llm/{name}.json" for name in ("tokenizer_config", "special_tokens_map")),
        "llm/model.safetensors",
    }
    config = (imported.llm_path / "config.json").read_text()
    assert "/somewhere" not in config
    assert "instruct_pipeline" not in config


def test_image_tokens_are_entries_that_no_text_spells(imported: Checkpoint) -> None:
    text = imported.load_tokenizer()
    names = [image_token_name(code) for code in range(1024)]
    assert [text.token_id(name) for name in names] == list(range(OFFSET, ROWS))
    spelt = "a<|image_0003|> ### End ### Response:\n b"
    assert max(text.encode_text(spelt)) < OFFSET - 3
    assert text.decode(text.encode_text(spelt)) == spelt
    transformers = AutoTokenizer.from_pretrained(imported.llm_path)
    assert len(transformers) == ROWS
    assert transformers.convert_tokens_to_ids(names) == list(range(OFFSET, ROWS))
    assert transformers(spelt)["input_ids"] == text.encode_frame(spelt)


def test_the_same_release_gives_the_same_checkpoint(
    small: Original, imported: Checkpoint, tmp_path: Path
) -> None:
    again = import_official(small.release, tmp_path / "again", name="x", version="1")
    assert again.manifest.digest == imported.manifest.digest


BLURB = (
    "Below is an instruction that describes a task. Write a response that appropriately completes"
    " the request.\n\n### Instruction:\n"
)
IMAGE = "".join(image_token_name(code) for code in range(256))
REPORT = "Write the radiology report for this chest radiograph."
DRAW = "Generate a chest radiograph that matches this report."


def test_prompts_are_framed_as_in_its_training(imported: Checkpoint) -> None:
    """Each frame tokenised in parts is the frame tokenised as one text."""
    prompts, text = imported.load_prompts(), imported.load_tokenizer()
    codes = list(range(256))
    for prompt, literal in (
        (
            prompts.report(codes),
            f"{BLURB}{REPORT}\n\nInput:\n<{IMAGE}>\n\n### Response:\n",
        ),
        (
            prompts.report(codes, indication="cough."),
            f"{BLURB}{REPORT}\nIndication: cough.\n\nInput:\n<{IMAGE}>\n\n### Response:\n",
        ),
        (
            prompts.question(codes, "Is the heart enlarged?"),
            f"{BLURB}Is the heart enlarged?\n\nInput:\n<{IMAGE}>\n\n### Response:\n",
        ),
        (
            prompts.image("No effusion."),
            f"{BLURB}{DRAW}\n\nInput:\nNo effusion.\n\n### Response:\n<",
        ),
        (
            prompts.instruction("Name a bone.", "In the chest."),
            f"{BLURB}Name a bone.\n\nInput:\nIn the chest.\n\n### Response:\n",
        ),
        (
            prompts.instruction("Name a bone."),
            f"{BLURB}Name a bone.\n\n### Response:\n",
        ),
    ):
        assert list(prompt.token_ids) == text.encode_frame(literal)
        special = [text.token_id("### Instruction:"), text.token_id("### Response:\n")]
        assert [i for i in prompt.token_ids if i in special] == special
    assert prompts.text_answer("The heart is enlarged.") == text.encode_frame(
        "The heart is enlarged.\n\n### End"
    )


def test_the_brackets_are_those_of_the_replaced_word(imported: Checkpoint) -> None:
    """Training tokenised `<image>` and put the image's tokens in place of the middle one."""
    text = imported.load_tokenizer()
    before, middle, after = text.encode_frame("<image>")
    assert [text.encode_frame("<"), text.encode_frame(">")] == [[before], [after]]
    assert text.decode([middle]) == "image"
    written = text.encode_frame("\n\nInput:\n<image>\n\n### Response:\n")
    at = written.index(middle)
    ours = text.encode_frame(f"\n\nInput:\n<{IMAGE}>\n\n### Response:\n")
    assert ours == [*written[:at], *range(OFFSET, OFFSET + 256), *written[at + 1 :]]


# --- Export ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(imported: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> OfficialRelease:
    return export_official(imported.path, tmp_path_factory.mktemp("exported") / "theirs")


def test_what_goes_out_is_what_came_in(small: Original, exported: OfficialRelease) -> None:
    weights, ours = small.vqgan.weights, load_weights(exported)
    assert weights.keys() == ours.keys()
    assert all(torch.equal(ours[name], weights[name]) for name in weights)
    params = yaml.safe_load(exported.project.read_text())["model"]["params"]
    expected = official.project(official.SMALL, 8)["model"]["params"]
    assert {k: v for k, v in params.items() if k != "lossconfig"} == {
        k: v for k, v in expected.items() if k != "lossconfig"
    }
    tokenizers = [
        Tokenizer.from_file(str(folder / "tokenizer.json"))
        for folder in (small.release.llm, exported.llm)
    ]
    assert tokenizers[0].to_str() == tokenizers[1].to_str()
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        written = [json.loads((f / file).read_text()) for f in (small.release.llm, exported.llm)]
        assert written[0] == written[1]
    settings = json.loads((exported.llm / "config.json").read_text())
    before = json.loads((small.release.llm / "config.json").read_text())
    for key in ("rotary_pct", "rotary_emb_base", "torch_dtype", "vocab_size", "eos_token_id"):
        assert settings[key] == before[key]


def test_import_of_an_export_has_the_same_codes_and_logits(
    small: Original, imported: Checkpoint, exported: OfficialRelease, tmp_path: Path
) -> None:
    again = import_official(exported, tmp_path / "again", name="x", version="1")
    pixels = pictures(32, count=3)
    codes = [ImageTokenizer(c.load_vqgan()).encode(pixels) for c in (imported, again)]
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], small.vqgan.encode(pixels))
    decoded = ImageTokenizer(again.load_vqgan()).decode(codes[0])
    original = small.vqgan.decode(codes[0]).clamp(-1, 1)
    torch.testing.assert_close(decoded, original, rtol=1e-4, atol=1e-4)
    prompt = list(again.load_prompts().report(codes[0][0].tolist()).token_ids)
    assert torch.equal(logits(load_llm(again.llm_path), prompt), logits(small.llm, prompt))
    assert again.manifest.vocabulary == imported.manifest.vocabulary
    same = {"vqgan.safetensors", "llm/model.safetensors", "llm/tokenizer.json"}
    assert all(again.manifest.files[name] == imported.manifest.files[name] for name in same)


def test_a_damaged_checkpoint_is_not_exported(imported: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(imported.path, tmp_path / "ours")
    with (tmp_path / "ours" / "vqgan.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\1\2\3")
    with pytest.raises(DigestMismatch):
        export_official(tmp_path / "ours", tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_another_template_is_not_exported(checkpoint_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="smollm2"):
        export_official(checkpoint_path, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_other_groups_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="32 groups"):
        write_project(tmp_path / "project.yaml", VqGanConfig(norm_groups=16))


def test_other_upsampling_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="nearest"):
        write_project(tmp_path / "project.yaml", VqGanConfig(upsampling="bilinear"))


def test_noise_in_the_decoder_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="noise"):
        write_project(tmp_path / "project.yaml", VqGanConfig(decoder_noise=True))


# --- Wrong input ----------------------------------------------------------------------------


def change_weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[OfficialRelease], None]:
    def apply(release: OfficialRelease) -> None:
        weights = official.random_weights(official.vqgan_shapes(official.SMALL, 8))
        change(weights)
        torch.save({"state_dict": weights}, release.vqgan)

    return apply


def change_project(change: Callable[[dict[str, Any]], Any]) -> Callable[[OfficialRelease], None]:
    def apply(release: OfficialRelease) -> None:
        values = yaml.safe_load(release.project.read_text())
        change(values["model"]["params"])
        release.project.write_text(yaml.safe_dump(values))

    return apply


def change_tokenizer(change: Callable[[Tokenizer], Any]) -> Callable[[OfficialRelease], None]:
    def apply(release: OfficialRelease) -> None:
        tokenizer = Tokenizer.from_file(str(release.llm / "tokenizer.json"))
        change(tokenizer)
        tokenizer.save(str(release.llm / "tokenizer.json"))

    return apply


def change_definition(change: Callable[[dict[str, Any]], Any]) -> Callable[[OfficialRelease], None]:
    def apply(release: OfficialRelease) -> None:
        path = release.llm / "tokenizer.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return apply


def rename_token(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def apply(values: dict[str, Any]) -> None:
        for token in values["added_tokens"]:
            token["content"] = new if token["content"] == old else token["content"]

    return apply


def leave_gap(values: dict[str, Any]) -> None:
    """One entry fewer, the others' ids as before; one more at the end, so the count is right."""
    del values["model"]["vocab"]["filler40000"]
    values["added_tokens"].append(values["added_tokens"][-1] | {"id": OFFSET, "content": "new"})


def change_llm(rows: int = ROWS, **changed: Any) -> Callable[[OfficialRelease], None]:
    def apply(release: OfficialRelease) -> None:
        model = official.make_model(rows, torch.float32)
        official.write_llm(release.llm, model)
        state = {k: v for k, v in model.state_dict().items() if k not in changed}
        extra = {k: v for k, v in changed.items() if v is not None}
        torch.save(state | extra, release.llm / "pytorch_model.bin")

    return apply


class Executed:
    """Leaves a trace if a pickle that names it is trusted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, ("the pickle's code was run",))


def pickled(thing: object) -> Callable[[OfficialRelease], None]:
    return lambda release: torch.save(thing, release.vqgan)


def written(part: str, name: str, content: bytes) -> Callable[[OfficialRelease], None]:
    return lambda release: (getattr(release, part) / name).write_bytes(content) and None


def removed(part: str, name: str = "") -> Callable[[OfficialRelease], None]:
    return lambda release: (getattr(release, part) / name).unlink()


WRONG = {
    "no ckpt": (removed("vqgan"), "there is no file"),
    "damaged ckpt": (written("vqgan", "", b"PK\3\4 half a file"), "last.ckpt is damaged"),
    "empty ckpt": (written("vqgan", "", b""), "last.ckpt is damaged"),
    "no state dict": (pickled({"state_dict": {"a": 1}}), "no state_dict of tensors"),
    "a list": (pickled([1, 2]), "no state_dict of tensors"),
    "a pickle with code": (
        pickled({"state_dict": {}, "hook": Executed()}),
        r"sys\.exit, which could run code .* save torch\.load",
    ),
    "a missing weight": (
        change_weights(lambda w: w.pop("encoder.conv_in.bias")),
        "last.ckpt lacks encoder.conv_in.bias$",
    ),
    "two missing weights": (
        change_weights(lambda w: (w.pop("quant_conv.bias"), w.pop("quant_conv.weight"))),
        "last.ckpt lacks quant_conv.bias and 1 more$",
    ),
    "an unknown weight": (
        change_weights(lambda w: w.update({"quantize.proj.weight": torch.zeros(1)})),
        "quantize.proj.weight",
    ),
    "another shape": (
        change_weights(lambda w: w.update({"quantize.embedding.weight": torch.zeros(512, 8)})),
        r"embedding.weight in last.ckpt is \(512, 8\), by the project file \(1024, 8\)",
    ),
    "no yaml": (removed("project"), "project.yaml cannot be read"),
    "malformed yaml": (written("project", "", b"{ a: ["), "project.yaml cannot be read"),
    "empty yaml": (written("project", "", b""), "project.yaml: "),
    "double_z": (
        change_project(lambda p: p["ddconfig"].update(double_z=True)),
        "ddconfig.double_z: .*must be false",
    ),
    "no embed_dim": (change_project(lambda p: p.pop("embed_dim")), "embed_dim: Field required"),
    "unknown setting": (
        change_project(lambda p: p["ddconfig"].update(attn_type="linear")),
        "ddconfig.attn_type: Extra inputs",
    ),
    "no convolution": (
        change_project(lambda p: p["ddconfig"].update(resamp_with_conv=False)),
        "resamp_with_conv",
    ),
    "one channel out": (
        change_project(lambda p: p["ddconfig"].update(out_ch=1)),
        "in_channels and out_ch differ",
    ),
    "impossible width": (
        change_project(lambda p: p["ddconfig"].update(ch=40)),
        "norm_groups must divide",
    ),
    "no tokenizer": (removed("llm", "tokenizer.json"), "no readable tokenizer.json"),
    "damaged tokenizer": (written("llm", "tokenizer.json", b"{}"), "is no tokenizer"),
    "damaged tokenizer config": (
        written("llm", "tokenizer_config.json", b"["),
        "tokenizer_config.json is no JSON",
    ),
    "response key without line end": (
        change_definition(rename_token("### Response:\n", "### Reply:\n")),
        r"no special token '### Response:\\n'",
    ),
    "one entry more": (
        change_tokenizer(lambda t: t.add_tokens(["new"])),
        "has 50282 entries, but the image ids start at 50281",
    ),
    "image tokens already": (
        change_tokenizer(lambda t: t.add_special_tokens([AddedToken(image_token_name(7))])),
        "image tokens already",
    ),
    "ids with a gap": (
        change_definition(leave_gap),
        "gives .* the id 50254, but it is read as 50253",
    ),
    "no room": (change_llm(50281 + 1023), "51304 embedding rows: no room for 1024 image ids"),
    "too much room": (change_llm(51328), "51328 embedding rows, 23 more"),
    "no config": (removed("llm", "config.json"), "no config.json"),
    "malformed config": (written("llm", "config.json", b"{"), "cannot be loaded"),
    "no weights": (removed("llm", "pytorch_model.bin"), "cannot be loaded"),
    "damaged weights": (written("llm", "pytorch_model.bin", b"PK\3\4"), "cannot be loaded"),
    "weights with code": (
        lambda release: torch.save({"a": Executed()}, release.llm / "pytorch_model.bin"),
        "cannot be loaded",
    ),
    "a missing tensor": (
        change_llm(**{"gpt_neox.final_layer_norm.bias": None}),
        "lacks tensor gpt_neox.final_layer_norm.bias",
    ),
    "an unknown tensor": (
        change_llm(**{"gpt_neox.extra.weight": torch.zeros(3)}),
        "unknown tensor gpt_neox.extra.weight",
    ),
    "a tensor of another shape": (
        change_llm(**{"gpt_neox.final_layer_norm.bias": torch.zeros(3)}),
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    broken: OfficialRelease, tmp_path: Path, wrong: str
) -> None:
    change, message = WRONG[wrong]
    change(broken)
    with pytest.raises(ConversionError, match=message) as refusal:
        import_official(broken, tmp_path / "out" / "ours", name="x", version="1")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_an_unknown_view_or_geometry_is_refused(small: Original) -> None:
    with pytest.raises(ConversionError, match="frontal and lateral"):
        replace(small.release, views=("oblique",))
    with pytest.raises(ConversionError, match="squash"):
        OfficialRelease.of(Path(), Path(), Path(), OFFSET, "mimic", "stretch", ("frontal",))


def test_a_directory_that_is_there_is_left_alone(small: Original, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "thesis.txt").write_text("precious")
    with pytest.raises(ConversionError, match="is there already"):
        import_official(small.release, tmp_path / "ours", name="x", version="1")
    assert [f.name for f in (tmp_path / "ours").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("limit", [50_000, 6_000_000])
def test_a_full_disk_leaves_nothing(small: Original, tmp_path: Path, limit: int) -> None:
    """A limit on file sizes stands for it: the first or a later file cannot be finished."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(ConversionError, match="cannot be written"):
            import_official(small.release, tmp_path / "ours", name="x", version="1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(small: Original, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConversionError, match="cannot be written"):
        import_official(small.release, tmp_path / "file" / "ours", name="x", version="1")


def test_weights_in_safetensors_are_read_too(broken: OfficialRelease, tmp_path: Path) -> None:
    model = official.make_model(ROWS, torch.float32)
    (broken.llm / "pytorch_model.bin").unlink()
    save_file(model.state_dict(), broken.llm / "model.safetensors", metadata={"format": "pt"})
    ours = import_official(broken, tmp_path / "ours", name="x", version="1")
    written = load_file(ours.llm_path / "model.safetensors")
    assert all(torch.equal(written[k], v) for k, v in model.state_dict().items())


# --- Commands -------------------------------------------------------------------------------


def test_the_commands(
    small: Original,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    release, ours = small.release, tmp_path / "ours"

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["llmcxr-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    source = ("--vqgan", release.vqgan, "--vqgan-config", release.project, "--llm", release.llm)
    views = ("--view", "frontal", "--view", "lateral")
    assert run("import", *source, "--output", ours, *views) == 0
    manifest = Checkpoint.open(ours).manifest
    assert manifest.views == ("frontal", "lateral")
    assert manifest.served_name in capsys.readouterr().out
    assert run("export", ours, tmp_path / "theirs") == 0
    assert load_weights(OfficialRelease(tmp_path / "theirs" / "vqgan.ckpt", Path(), Path()))
    assert run("export", ours, tmp_path / "theirs") == 1
    assert "is there already" in capsys.readouterr().err
