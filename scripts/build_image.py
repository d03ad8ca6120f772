"""Build the image from the Dockerfile where no image registry can be reached, and try it.

    sudo python3 scripts/build_image.py base build try      # then: clean

Needs root, Debian's `buildah` and `mmdebstrap`, and nothing that must be pulled: the Dockerfile's
base is stood in for by a Debian of the same release, made from the package sources of this
machine and tagged with the base's name. apt and pip inside use this machine's configuration; it
is mounted while the image is built, and nothing of it is in the Dockerfile.

`try` runs the image's root as the image says (its user, environment and command), read-only, with
no capabilities and no new privileges, and asks it for a report.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("LLMCXR_IMAGE_STATE", "/var/tmp/llmcxr-image"))
IMAGE = "localhost/llmcxr"
PORT = 18080
READY_SECONDS = 900
DEBIAN_PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"


class BuildError(Exception):
    """The image cannot be built or does not work; the message says why."""


def main() -> int:
    """Do the steps that are named, in the order in which they are named."""
    steps = {"base": make_base, "build": build, "try": try_image, "clean": clean}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="+", choices=steps)
    parser.add_argument("--parts", default="gateway,vllm", help="what the image shall hold")
    parser.add_argument("--figures", type=Path, help="file of figures to write, JSON")
    asked = parser.parse_args()
    try:
        check_host()
        STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
        for step in asked.steps:
            started = time.monotonic()
            figures = steps[step](asked.parts)
            figures["seconds"] = round(time.monotonic() - started)
            print(json.dumps({step: figures}), flush=True)
            if asked.figures:
                note(asked.figures, step, figures)
    except (BuildError, OSError) as error:
        print(f"[image] {error}", file=sys.stderr)
        return 1
    return 0


def check_host() -> None:
    """Refuse to begin what cannot end well.

    Raises:
        BuildError: a program or a right is missing.
    """
    if os.geteuid() != 0:
        raise BuildError("root is needed: chroot and mounts.")
    missing = [name for name in ("buildah", "mmdebstrap", "setpriv") if not shutil.which(name)]
    if missing:
        raise BuildError(f"not installed: {', '.join(missing)}.")


def make_base(_parts: str) -> dict[str, Any]:
    """A stand-in for the Dockerfile's base, under the base's name."""
    name, release = base_of((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    context = STATE / "base"
    context.mkdir(exist_ok=True)
    archive = context / "root.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={DEBIAN_PACKAGES}"]
    command += [f"--aptopt={line}" for line in apt_options()]
    run([*command, release, str(archive), *apt_sources()])
    (context / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["python3"]\n')
    buildah("bud", "--isolation", "chroot", "--tag", name, str(context))
    archive.unlink()
    return {"name": name, "bytes": size_of(name)}


def build(parts: str) -> dict[str, Any]:
    """The image itself, from the repository's Dockerfile. Finished layers are kept and reused."""
    command = ["bud", "--isolation", "chroot", "--pull-never", "--layers", "--format", "docker"]
    command += ["--build-arg", "DEVICE=cpu", "--build-arg", f"PARTS={parts}"]
    command += ["--build-arg", f"REVISION={revision()}"]
    for volume in pip_volumes():
        command += ["--volume", volume]
    buildah(*command, "--tag", tag_of(parts), str(ROOT))
    return {"bytes": size_of(tag_of(parts)), "parts": parts}


def try_image(parts: str) -> dict[str, Any]:
    """Run it and ask for a report.

    Raises:
        BuildError: it did not become ready, or gave no report.
    """
    if "vllm" not in parts:
        raise BuildError("an image without vLLM gives no report by itself.")
    url = f"http://127.0.0.1:{PORT}"
    started = time.monotonic()
    with mounted(tag_of(parts)) as root, running(root, tag_of(parts)) as process:
        wait_until_ready(url, process)
        ready = time.monotonic() - started
        found = look_inside(root, process.pid)
        report = ask_for_report(url)
    print(json.dumps(report, indent=2))
    return {**found, "ready_seconds": round(ready), "report_characters": len(report["findings"])}


def clean(_parts: str) -> dict[str, Any]:
    """Remove every image, layer and cache that the other steps left."""
    buildah("rm", "--all", check=False)
    buildah("rmi", "--all", "--force", check=False)
    shutil.rmtree(STATE)
    return {}


def base_of(dockerfile: str) -> tuple[str, str]:
    """The base's name and Debian's release, from `ARG BASE=...:VERSION-slim-RELEASE`.

    Raises:
        BuildError: there is no such line.
    """
    match = re.search(r"^ARG BASE=(\S+-slim-(\w+))$", dockerfile, re.M)
    if match is None:
        raise BuildError("The Dockerfile names no base of the form NAME:VERSION-slim-RELEASE.")
    return match[1], match[2]


def apt_sources() -> list[str]:
    """This machine's files of Debian's own sources; others are not wanted in an image."""
    candidates = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("debian*")]
    found = [str(file) for file in candidates if file.is_file() and file.stat().st_size]
    if not found:
        raise BuildError("apt on this machine has no sources of Debian's packages.")
    return found


def apt_options() -> list[str]:
    """How apt fetches here: proxies, certificates, whether dates are checked."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    wanted = ("Acquire::http", "Acquire::Check-", "Acquire::Retries")
    return [line.rstrip(";") for line in dump.stdout.splitlines() if line.startswith(wanted)]


def pip_volumes() -> list[str]:
    """What pip inside needs to find packages as pip here does: its settings, local folders."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    # One line a setting: where it is from, its name, and its value as a Python string.
    pairs = re.findall(r"^\S*?\.([a-z-]+)='(.*)'$", listed.stdout, re.M)
    settings = {name: value.replace("\\n", " ") for name, value in pairs}
    file = STATE / "pip.conf"
    lines = [f"{name} = {value}" for name, value in settings.items()]
    file.write_text("\n".join(["[global]", *lines]) + "\n", encoding="utf-8")
    words = " ".join(settings.values()).split()
    paths = {Path(word.removeprefix("file://")) for word in words if "/" in word}
    existing = sorted(str(path) for path in paths if path.is_absolute() and path.exists())
    # Packages beside an index are named by it with relative addresses.
    folders = {str(Path(path).parent) if Path(path).name == "simple" else path for path in existing}
    return [f"{file}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(folders))]


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """The image's file system, of a container that is removed afterwards."""
    container = buildah("from", "--pull-never", image)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


@contextmanager
def running(root: Path, image: str) -> Iterator[subprocess.Popen[bytes]]:
    """The image's command in namespaces of its own; ended afterwards, with all its processes."""
    config = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    settings = [*config["Env"], "LLMCXR_HOST=127.0.0.1", f"LLMCXR_PORT={PORT}", "LLMCXR_OPEN=true"]
    user, group = config["User"].split(":")
    command = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    command += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
    command += [*config["Entrypoint"], *config["Cmd"]]
    start = f"cd {shlex.quote(config['WorkingDir'])} && exec {shlex.join(command)}"
    script = f"""
        set -e
        mount --bind {shlex.quote(str(root))} {shlex.quote(str(root))}
        cd {shlex.quote(str(root))}
        mount -o remount,bind,ro .
        mount -t proc proc proc
        mount -t sysfs -o ro sysfs sys
        mount -t tmpfs -o mode=755 dev dev
        for node in null zero full random urandom; do
            touch dev/$node
            mount --bind /dev/$node dev/$node
        done
        mkdir dev/shm && mount -t tmpfs -o mode=1777 shm dev/shm
        mount -t tmpfs -o mode=1777 tmp tmp
        mount -t tmpfs -o mode=700,uid={user} spool var/lib/llmcxr
        exec chroot . env -i {shlex.join(settings)} sh -c {shlex.quote(start)}
    """
    isolated = ["unshare", "--mount", "--pid", "--fork", "bash", "-c", script]
    with (STATE / "service.log").open("wb") as log:
        process = subprocess.Popen(isolated, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            # The first process of its namespace; all others there end with it. (unshare's own
            # --kill-child does not outlast the change of user.)
            for child in children_of(process.pid):
                os.kill(child, signal.SIGKILL)
            process.wait()


def children_of(process: int) -> list[int]:
    """Ids of a process' children; none where it has ended."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until `/health/ready` says 200.

    Raises:
        BuildError: it ended, or takes too long.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1.0)
    tail = (STATE / "service.log").read_text(errors="replace")[-3000:]
    raise BuildError(f"The service did not become ready. The end of its log:\n{tail}")


def look_inside(root: Path, launcher: int) -> dict[str, Any]:
    """What runs there, from its /proc: user, privileges; and what the image holds."""
    (first,) = children_of(launcher)
    status = Path(f"/proc/{first}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    mounts = Path(f"/proc/{first}/mounts").read_text().splitlines()
    sbom = json.loads((root / "usr/share/sbom/llmcxr.cdx.json").read_text(encoding="utf-8"))
    compilers = [
        name
        for name in ("gcc", "g++", "cc", "make", "ld")
        if shutil.which(
            name,
            path=os.pathsep.join(str(root / part) for part in ("usr/bin", "usr/local/bin", "bin")),
        )
    ]
    return {
        "uid": int(fields["Uid"].split()[0]),
        "capabilities": fields["CapBnd"],
        "no_new_privileges": fields["NoNewPrivs"] == "1",
        "read_only_root": any(
            m.split()[1] == "/" and "ro" in m.split()[3].split(",") for m in mounts
        ),
        "build_tools": compilers,
        "python_packages": len(sbom["components"]),
        "debian_packages": len((root / "usr/share/sbom/debian.tsv").read_text().splitlines()),
    }


def ask_for_report(url: str) -> dict[str, Any]:
    """A report of a sample radiograph.

    Raises:
        BuildError: there was none.
    """
    command = [
        "curl",
        "-sS",
        "--max-time",
        "300",
        "-F",
        f"file=@{ROOT}/samples/example-patient.dcm",
    ]
    done = subprocess.run([*command, f"{url}/generate-report"], capture_output=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
        report: dict[str, Any] = answer.get("report", answer)
        if not report["findings"]:
            raise BuildError("The report is empty.")
    except (ValueError, KeyError):
        raise BuildError(f"No report: {done.stdout[:500]!r} {done.stderr[:500]!r}") from None
    return report


def buildah(*arguments: str, check: bool = True) -> str:
    """Run buildah with a storage of our own; its output, stripped.

    Raises:
        BuildError: it failed.
    """
    storage = ["--root", str(STATE / "storage"), "--runroot", str(STATE / "run")]
    storage += ["--storage-driver", "overlay" if overlay_works() else "vfs"]
    shown = arguments[0] == "bud"
    done = subprocess.run(
        ["buildah", *storage, *arguments],
        stdout=None if shown else subprocess.PIPE,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        raise BuildError(f"buildah {arguments[0]} failed; its message is above.")
    return "" if shown else done.stdout.strip()


def overlay_works() -> bool:
    """Whether overlays can be mounted here; copies of whole layers (vfs) work everywhere."""
    trial = STATE / "overlay-trial"
    folders = [trial / name for name in ("lower", "upper", "work", "merged")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    lower, upper, work, merged = map(str, folders)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    command = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, merged]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def size_of(image: str) -> int:
    """Bytes of an image's layers, uncompressed."""
    for entry in json.loads(buildah("images", "--json", image)):
        size = str(entry["size"])
        number, unit = re.fullmatch(r"([\d.]+) ?(\w*)", size).groups()  # type: ignore[union-attr]
        return round(float(number) * {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])
    raise BuildError("There is no such image.")


def tag_of(parts: str) -> str:
    """One tag for each set of parts."""
    return f"{IMAGE}:{parts.replace(',', '-')}"


def revision() -> str:
    """The commit, for a label."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def note(file: Path, step: str, figures: dict[str, Any]) -> None:
    """Put a step's figures into a file, beside those of others."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**known, step: figures}, indent=2) + "\n", encoding="utf-8")


def run(command: Sequence[str]) -> None:
    """A command whose output is shown.

    Raises:
        BuildError: it failed.
    """
    if subprocess.run(command, check=False).returncode != 0:
        raise BuildError(f"{command[0]} failed; its message is above.")


if __name__ == "__main__":
    sys.exit(main())
