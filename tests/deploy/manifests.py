"""Manifests as kustomize builds them, and small questions about them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
NAME = "app.kubernetes.io/name"
Manifest = dict[str, Any]


@cache
def build(overlay: str) -> tuple[Manifest, ...]:
    """What `kustomize build` makes of an overlay; the test is skipped without kustomize."""
    return _build(KUBERNETES / "overlays" / overlay)


@cache
def build_with_scraping(directory: Path) -> tuple[Manifest, ...]:
    """The GPU overlay with the component that opens vLLM's port to Prometheus."""
    shutil.copytree(KUBERNETES, directory / "kubernetes")
    file = directory / "kubernetes" / "overlays" / "gpu" / "kustomization.yaml"
    file.write_text(file.read_text() + "components: [../../components/scrape-vllm]\n")
    return _build(file.parent)


def find(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The one of this kind and name."""
    (found,) = [m for m in of_kind(manifests, kind) if m["metadata"]["name"] == name]
    return found


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> list[Manifest]:
    """All of a kind."""
    return [m for m in manifests if m["kind"] == kind]


def workloads(manifests: tuple[Manifest, ...]) -> list[Manifest]:
    """What has pods."""
    return [m for m in manifests if "template" in m.get("spec", {})]


def pod(workload: Manifest) -> Manifest:
    """The pods' spec."""
    return workload["spec"]["template"]["spec"]


def containers(workload: Manifest) -> Iterator[Manifest]:
    """All containers of a workload's pods, those that run first included."""
    yield from pod(workload).get("initContainers", [])
    yield from pod(workload)["containers"]


def labels(workload: Manifest) -> dict[str, str]:
    """The pods' labels."""
    return workload["spec"]["template"]["metadata"]["labels"]


def _build(directory: Path) -> tuple[Manifest, ...]:
    for program in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(program[0]):
            done = subprocess.run(
                [*program, str(directory)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            return tuple(yaml.safe_load_all(done.stdout))
    pytest.skip("neither kubectl nor kustomize is here")
