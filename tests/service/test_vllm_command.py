"""How vLLM is started: nothing secret in sight, everything from the manifest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.hardware import cpu_has_bf16
from llmcxr_models.idle_threads import SPINS
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_alone import show_command, write_config
from llmcxr_service.vllm_command import (
    GIB,
    VllmOptions,
    kv_bytes_per_token,
    kv_cache_bytes,
    resolve_dtype,
    vllm_command,
    vllm_environment,
)

SMOLLM2 = {
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
}
OPTIONS = VllmOptions(kv_cache_gib=0.5, eager=True, dtype="float32", max_num_seqs=7)


def _after(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_command_says_what_the_manifest_says(checkpoint: Checkpoint) -> None:
    command = vllm_command(checkpoint, OPTIONS, 4321)
    assert _after(command, "--served-model-name") == checkpoint.manifest.served_name
    assert _after(command, "--max-model-len") == str(checkpoint.manifest.max_model_len)
    assert _after(command, "--host") == "127.0.0.1"
    assert _after(command, "--port") == "4321"
    assert _after(command, "--max-num-seqs") == "7"
    assert _after(command, "--kv-cache-memory-bytes") == str(GIB // 2)
    assert {"--enable-prefix-caching", "--enforce-eager"} <= set(command)
    assert "--api-key" not in command
    assert "--trust-remote-code" not in command


def test_key_goes_by_the_environment_and_our_settings_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMCXR_VLLM_API_KEY", "another secret")
    environment = vllm_environment("the key")
    assert environment["VLLM_API_KEY"] == "the key"
    assert not [name for name in environment if name.startswith("LLMCXR_")]


def test_operators_own_thread_binding_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-1")
    assert vllm_environment("key")["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has a compiler of its own")
def test_nothing_is_compiled_without_a_compiler(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = VllmOptions(kv_cache_gib=0.5)
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    (tmp_path / "g++").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "TORCH_COMPILE_DISABLE" not in vllm_environment("key")
    assert "--enforce-eager" not in vllm_command(checkpoint, options, 4321)
    (tmp_path / "g++").unlink()
    assert vllm_environment("key")["TORCH_COMPILE_DISABLE"] == "1"
    assert "--enforce-eager" in vllm_command(checkpoint, options, 4321)


def test_cache_of_a_token() -> None:
    # keys and values, 30 layers, 3 heads of 64, 4 bytes
    assert kv_bytes_per_token(SMOLLM2, "float32") == 2 * 30 * 3 * 64 * 4
    assert kv_bytes_per_token(SMOLLM2, "bfloat16") == 2 * 30 * 3 * 64 * 2


def test_cache_of_a_model_that_is_not_described(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidCheckpoint):
        kv_cache_bytes(checkpoint, dataclasses.replace(OPTIONS, kv_cache_gib=None), "float32")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx2 avx512f", False), ("fpu avx512_bf16", True), ("amx_bf16 amx_tile", True)],
)
def test_bfloat16_where_the_processor_has_it(tmp_path: Path, flags: str, expected: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor: 0\nflags: {flags}\n")
    assert cpu_has_bf16(cpuinfo) is expected
    assert cpu_has_bf16(tmp_path / "none") is False


def test_dtype() -> None:
    assert resolve_dtype("auto", has_gpu=True) == "bfloat16"
    assert resolve_dtype("float16", has_gpu=False) == "float16"
    assert resolve_dtype("auto", has_gpu=False) in {"bfloat16", "float32"}


def test_vllm_alone_is_told_the_same(checkpoint_path: Path, tmp_path: Path) -> None:
    settings = Settings(checkpoint=checkpoint_path, vllm_kv_cache_gib=0.5, vllm_api_key="secret")
    name = Checkpoint.open(checkpoint_path).manifest.served_name
    shown = show_command(settings, "0.0.0.0", 8000)
    assert shown.startswith("vllm serve ")
    assert f"--served-model-name {name}" in shown
    assert "secret" not in shown
    write_config(settings, "0.0.0.0", 8000, tmp_path / "vllm.yaml")
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((tmp_path / "vllm.yaml").read_text())
    assert config["served-model-name"] == name
    assert config["max-model-len"] == 400
    assert config["enable-prefix-caching"] is True


def test_a_processor_reads_every_prompt_at_once(checkpoint: Checkpoint) -> None:
    command = vllm_command(checkpoint, OPTIONS, 4321)
    assert "--no-enable-chunked-prefill" in command
    longest = int(_after(command, "--max-num-batched-tokens"))
    assert longest >= checkpoint.manifest.max_model_len
    assert int(_after(command, "--block-size")) % 32 == 0  # what its CPU kernels prefer


def test_few_cores_wait_briefly_and_have_no_worker_process(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "VLLM_ENABLE_V1_MULTIPROCESSING")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert [vllm_environment(None)[name] for name in names] == ["PASSIVE", SPINS, "0"]
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")  # who sets it has his way
    assert vllm_environment(None)["GOMP_SPINCOUNT"] == "7"
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in vllm_environment(None)
