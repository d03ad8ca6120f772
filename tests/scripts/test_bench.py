"""`make bench`: arithmetic of ratios and of the roofline, the figures' file, and the page.

What is timed is not tested here; `python scripts/bench.py --quick` runs all of it.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from bench_sections import figures, page, plots, processes, ratios, store  # noqa: E402
from bench_sections.asking import Answer, Batch, closed_loop, with_answer_of  # noqa: E402
from bench_sections.cost import with_image_of  # noqa: E402
from bench_sections.machine_rates import bandwidth, products  # noqa: E402
from bench_sections.roofline import Shape  # noqa: E402

from llmcxr_models.checkpoint import Checkpoint  # noqa: E402
from llmcxr_service.vllm_command import kv_bytes_per_token  # noqa: E402

KEYS = {
    "images_vs_official_at_1",
    "images_vs_official_at_16",
    "reports_vs_official_at_16",
    "reports_vs_official_at_32",
    "throughput_vs_raw_vllm",
    "added_ms_p50",
    "added_ms_p99",
    "vqgan_batched_vs_torch",
    "decode_vs_pydicom",
    "seconds_to_first_report",
    "roofline_share",
}
CONFIG = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "vocab_size": 500,
}
DOCUMENT = ROOT / "docs" / "benchmarks" / "README.md"
LATEST = DOCUMENT.with_name("latest.json")


def ratio(value):
    return {"value": value, "low": value * 0.9, "high": value * 1.1, "n": 3}


def ratios_at(*levels):
    return {str(level): ratio(2.0 * level) for level in levels}


@pytest.fixture
def sections():
    """Made-up figures of every section."""
    conditions = {
        "when": "2026-01-02T03:04:05+00:00",
        "commit": "abc1234",
        "uncommitted_changes": False,
        "machine": {"cores": 2, "processor": "some", "flags": ["avx2"]},
        "load_average_before": 0.1,
        "took_seconds": 90.0,
    }
    kind = {
        "official_per_second": 0.1,
        "per_second": {"1": 0.2, "16": 1.5, "32": 2.0},
        "vs_official": ratios_at(1, 16, 32),
    }
    vqgan = {
        "single_per_second": 2.0,
        "batched_per_second": 3.0,
        "torch_per_second": {"1": 2.0, "8": 3.1},
        "best_batch": 8,
        "batched_vs_single": ratio(1.5),
        "batched_vs_torch": ratio(0.97),
    }
    tokens = {"1": {"64": {"per_second": 4.0, "vs_published_length": ratio(4.0)}}}
    load = {
        "images_per_second": 1.0,
        "seconds": {"p50": 2.0, "p99": 3.0, "n": 4},
        "processor_seconds_per_image": 1.9,
    }
    run = {
        "seconds_to_ready": 30.0,
        "seconds_to_first_report": 40.0,
        "seconds_of_the_whole_demo": 60.0,
        "peak_mib": {"gateway": 500.0},
    }
    added = {"text": {"p50": 4.0, "p99": 9.0, "n": 200}}
    side = {"vllm_tokens_per_second": 100.0, "gateway_tokens_per_second": 98.0}
    throughput = side | {"ratio": ratio(0.98)}
    faster = {
        "1": {
            "before_tokens_per_second": 20.0,
            "after_tokens_per_second": 40.0,
            "ratio": ratio(2.0),
        }
    }
    found = {
        "decode": {
            "decode_vs_pydicom": ratio(0.5),
            "files": {
                "a": {
                    "cpu_ms": {"pydicom": 1.0, "usual": 3.0, "ours": 2.0},
                    "ratio_ours_to_pydicom": 2.0,
                }
            },
        },
        "vqgan": {"batched_vs_torch": ratio(0.97), "encode": vqgan, "decode": vqgan},
        "start": {"cold": run, "second": run},
        "throughput": {
            "images": kind
            | {
                "official_attempts": [1, 2],
                "official_images_that_came": 2,
                "official_attempts_at_most": 8,
            },
            "reports": kind,
        },
        "overhead": {
            "throughput": {"at_once": 32, "text": throughput, "images": throughput},
            "added_ms": added,
            "added_ms_scripted": added,
        },
        "cost": {"load": {"1": load, "4": load}, "writing": tokens, "reading": tokens},
        "roofline": {
            "dtype": "bfloat16",
            "bandwidth_gb_per_second": 20.0,
            "gflop_per_second": 900.0,
            "weights_mib": 256.0,
            "kv_bytes_per_token": 23040,
            "mean_context_tokens": 200.0,
            "bound_tokens_per_second": {"1": 70.0, "32": 1600.0},
            "vllm_tokens_per_second": {"1": 24.0, "32": 300.0},
            "share": {"1": 0.34, "32": 0.19, "saturated": 0.19},
            "prompts": {
                "tokens_per_second": 500.0,
                "bound_tokens_per_second": 3000.0,
                "share": 0.167,
            },
        },
        "options": {
            "waiting": faster,
            "blocks": {"images": faster, "reports": faster},
            "questions": faster,
            "ngram": {"started": False, "why": ["no"]},
        },
    }
    return {name: {"conditions": conditions, **section} for name, section in found.items()}


class TestRatios:
    def test_the_mean_is_geometric(self):
        assert ratios.paired_ratio([2.0, 8.0], [1.0, 1.0])["value"] == 4.0

    def test_what_falls_on_both_of_a_pair_falls_out(self):
        found = ratios.paired_ratio([3.0, 30.0, 0.3], [1.0, 10.0, 0.1])
        assert (found["value"], found["low"], found["high"]) == (3.0, 3.0, 3.0)

    def test_the_interval_is_students(self):
        found = ratios.paired_ratio([1.0, math.e**2], [1.0, 1.0])
        # Logarithms 0 and 2: mean 1, standard error 1, 97.5 % point of one degree 12.706.
        assert found["low"] == pytest.approx(math.exp(1 - 12.706), rel=1e-3)
        assert found["high"] == pytest.approx(math.exp(1 + 12.706), rel=1e-3)

    def test_one_pair_has_no_interval(self):
        found = ratios.paired_ratio([2.0], [1.0])
        assert (found["value"], found["low"], found["high"]) == (2.0, None, None)

    @pytest.mark.parametrize("pair", [([], []), ([1.0], [0.0]), ([1.0, 2.0], [1.0])])
    def test_what_is_no_pair_is_refused(self, pair):
        with pytest.raises(ValueError, match=r"ratio|zip"):
            ratios.paired_ratio(*pair)


class TestRoofline:
    @pytest.fixture
    def shape(self):
        return Shape.of(CONFIG, "bfloat16")

    def test_parameters_are_those_of_the_model_without_the_input_embedding(self, shape):
        model = LlamaForCausalLM(LlamaConfig(**CONFIG, tie_word_embeddings=False))
        everything = sum(weight.numel() for weight in model.parameters())
        assert shape.parameters == everything - model.model.embed_tokens.weight.numel()

    def test_keys_and_values_are_those_that_the_service_reckons_with(self, shape):
        of_a_token = shape.step_bytes(1, 1) - shape.step_bytes(0, 0)
        assert of_a_token == kv_bytes_per_token(CONFIG, "bfloat16")

    def test_one_sequence_is_bound_by_bandwidth_and_many_by_arithmetic(self, shape):
        one = shape.bound(1, 0, bandwidth=1e9, rate=1e12)
        assert one == pytest.approx(1e9 / (2 * shape.parameters))
        many = shape.bound(100_000, 0, bandwidth=1e9, rate=1e12)
        assert many == pytest.approx(1e12 / (2 * shape.parameters))

    def test_a_longer_context_lowers_the_bound(self, shape):
        bounds = [shape.bound(8, context, 1e9, 1e12) for context in (0, 100, 1000)]
        assert bounds == sorted(bounds, reverse=True)
        assert shape.prompt_bound(1000, 1e12) < shape.prompt_bound(10, 1e12)

    def test_the_machine_has_rates(self):
        streams = bandwidth([1], repeats=1)["1"]
        assert set(streams) == {"copy", "triad", "read"}
        gemm = products(64, (1, 8), repeats=1)
        assert all(rate > 0 for by_rows in gemm.values() for rate in by_rows.values())
        assert all(rate > 0 for rate in streams.values())


class TestAsking:
    async def test_a_closed_loop_asks_all_and_never_more_at_once(self):
        running, most = 0, 0

        async def ask(seed: int) -> Answer:
            nonlocal running, most
            running, most = running + 1, max(most, running + 1)
            await asyncio.sleep(0)
            running -= 1
            return Answer(seed)

        batch = await closed_loop(ask, range(10), 3)
        assert [answer.tokens for answer in batch.answers] == list(range(10))
        assert most == 3

    def test_rates_are_by_the_wall_time_of_all(self):
        batch = Batch([Answer(30), Answer(10)], 4.0)
        assert (batch.per_second, batch.tokens_per_second) == (0.5, 10.0)

    def test_an_image_in_a_prompt_is_cut_or_repeated(self, tiny):
        vocabulary = tiny.manifest.vocabulary
        codes = list(range(vocabulary.image_length))
        prompt = tiny.load_prompts().report(codes)
        image = set(vocabulary.image_token_ids)
        for length in (4, 16, 40):
            other = with_answer_of(with_image_of(prompt, vocabulary, length), 1)
            tokens = [token for token in other.token_ids if token in image]
            wanted = [vocabulary.image_offset + i % len(codes) for i in range(length)]
            assert tokens == wanted
            words = [token for token in other.token_ids if token not in image]
            assert words == [token for token in prompt.token_ids if token not in image]
            assert (other.constraint.min_tokens, other.constraint.max_tokens) == (1, 1)


@pytest.fixture
def tiny(tmp_path):
    from tests.checkpoints import build_checkpoint

    return Checkpoint.open(build_checkpoint(tmp_path / "tiny"))


class TestOfficial:
    def test_attempts_are_bounded_and_counted(self, tmp_path):
        from bench_sections.official import Official
        from bench_sections.tiny import tiny_checkpoint

        official = Official(Checkpoint.open(tiny_checkpoint(tmp_path / "t")), "float32", 2)
        drawn = official.image("The lungs are clear.", seed=0)
        # Random weights draw no whole image out of a vocabulary that is mostly text.
        assert (drawn.attempts, drawn.came) == (2, False)
        assert official.lucky_image("The lungs are clear.", seed=0) > 0
        sample = (ROOT / "samples" / "example-patient.dcm").read_bytes()
        seconds, tokens = official.report(sample)
        assert seconds > 0
        assert tokens > 0


def test_sides_take_turns_to_be_first():
    assert list(ratios.turns(range(-1, 2))) == [(-1, 1), (-1, 0), (0, 0), (0, 1), (1, 1), (1, 0)]


def test_no_two_radiographs_are_alike():
    from bench_sections.radiographs import Radiographs

    radiographs = Radiographs()
    made = [radiographs.picture(number).tobytes() for number in range(40)]
    assert len(set(made)) == 40
    radiographs.prepare([3])
    assert radiographs(3) == Radiographs()(3)


class TestProcesses:
    def test_a_family_has_its_children(self):
        code = "import sys; sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
            assert {os.getpid(), child.pid} <= processes.family(os.getpid())
            assert child.pid not in processes.family(1) or os.getpid() in processes.family(1)

    def test_processor_time_grows_with_work(self):
        before = processes.cpu_seconds([os.getpid()])
        while processes.cpu_seconds([os.getpid()]) <= before:
            torch.randn(200, 200) @ torch.randn(200, 200)

    def test_kinds(self):
        assert processes.kind_of("VLLM::EngineCore") == "vLLM, engine"
        launcher = "python -m llmcxr_service.vllm_launcher serve"
        assert processes.kind_of(launcher) == "vLLM, API server"
        assert processes.kind_of("python -m llmcxr_service serve --end-with-stdin") == "gateway"
        assert processes.kind_of("make demo") == "other"


class TestFigures:
    def test_the_file_has_every_key(self, sections):
        assert {figure.key for figure in figures.FIGURES} == KEYS
        document = json.loads(store.document(sections))
        assert document.keys() == KEYS | {"goals", "sections"}
        assert all(isinstance(document[key], float) for key in KEYS)
        assert document["goals"].keys() == KEYS

    def test_goals_are_compared(self, sections):
        goals = figures.summary(sections)["goals"]
        assert goals["images_vs_official_at_16"]["met"] is True
        assert goals["vqgan_batched_vs_torch"]["met"] is True
        assert goals["added_ms_p99"]["met"] is None
        sections["start"]["second"]["seconds_to_first_report"] = 61.0
        assert figures.summary(sections)["goals"]["seconds_to_first_report"]["met"] is False

    def test_what_was_not_measured_is_null(self):
        summary = figures.summary({})
        assert all(summary[key] is None for key in KEYS)
        assert all(summary["goals"][key]["met"] is None for key in KEYS)

    def test_a_section_replaces_only_itself(self, sections, tmp_path):
        path = tmp_path / "new" / "latest.json"
        store.replace(path, "decode", sections["decode"])
        store.replace(path, "start", sections["start"])
        changed = sections["start"] | {"second": {"seconds_to_first_report": 7.0}}
        store.replace(path, "start", changed)
        assert store.read(path) == {"decode": sections["decode"], "start": changed}
        assert json.loads(path.read_text())["seconds_to_first_report"] == 7.0

    def test_conditions_say_who_measured(self):
        found = store.conditions()
        assert found["versions"]["torch"]
        assert found["machine"]["cores"] >= 1


class TestPage:
    def test_it_shows_what_the_file_says(self):
        text = DOCUMENT.read_text(encoding="utf-8")
        assert text == page.rendered(text, store.read(LATEST))

    def test_the_file_agrees_with_itself(self):
        if LATEST.exists():
            assert LATEST.read_text(encoding="utf-8") == store.document(store.read(LATEST))

    def test_every_plot_of_a_measured_section_is_there(self):
        measured = store.read(LATEST)
        for name, section, _, _ in plots.PLOTS:
            assert (DOCUMENT.with_name(name)).exists() == (section in measured), name

    def test_nothing_quick_is_published(self):
        assert not any(s["conditions"]["quick"] for s in store.read(LATEST).values())

    def test_every_section_is_shown(self, sections, tmp_path):
        target = tmp_path / "README.md"
        target.write_text(DOCUMENT.read_text(encoding="utf-8"), encoding="utf-8")
        page.write_page(target, sections)
        written = target.read_text(encoding="utf-8")
        assert "Not measured" not in written
        assert "not measured" not in page.markdown(page.HEAD, page.rows(sections))
        for name, *_ in plots.PLOTS:
            assert f"({name})" in written
            assert (tmp_path / name).exists()

    def test_the_same_figures_draw_the_same_bytes(self, sections, tmp_path):
        bytes_ = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            drawn = plots.draw(folder, sections)
            bytes_.append([(folder / file).read_bytes() for file in drawn])
        assert bytes_[0] == bytes_[1]

    def test_a_page_without_places_is_refused(self, sections):
        with pytest.raises(ValueError, match="no place"):
            page.rendered("# Benchmarks", sections)


def test_an_unknown_section_is_refused():
    command = [sys.executable, str(ROOT / "scripts" / "bench.py"), "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "no section nothing" in done.stderr


def test_sections_against_a_scripted_vllm(tmp_path):
    """Every section that asks a language model, with the gateway and the published way real."""
    from bench_sections.tiny import tiny_checkpoint
    from scripted_vllm import scripted_vllm

    names = ("throughput", "overhead", "cost", "roofline")
    output = tmp_path / "figures.json"
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    with scripted_vllm(checkpoint) as url:
        command = [sys.executable, str(ROOT / "scripts" / "bench.py"), *names, "--quick"]
        command += ["--vllm-url", url, "--output", str(output), "--checkpoint", str(checkpoint)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(output.read_text())
    assert found["sections"].keys() == set(names)
    unmeasured = {key for key in KEYS if found[key] is None}
    assert unmeasured == {
        "reports_vs_official_at_32",
        "vqgan_batched_vs_torch",
        "decode_vs_pydicom",
        "seconds_to_first_report",
    }
    assert all(found[key] > 0 for key in KEYS - unmeasured)
    sections = store.read(output)
    assert sections["throughput"]["images"]["official_attempts"] == [2, 2]
    for name in names:
        assert "not measured" not in page.PARTS[name](sections)
