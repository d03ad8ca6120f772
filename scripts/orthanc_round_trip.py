"""A radiograph through the gateway and back, against a real Orthanc and DCMTK.

    sudo .venv/bin/python scripts/orthanc_round_trip.py            # a scripted vLLM, seconds
    sudo .venv/bin/python scripts/orthanc_round_trip.py --real     # the demo checkpoint, minutes

storescu -> the gateway's SCP -> report -> SR by STOW-RS into Orthanc, SR and Secondary Capture by
C-STORE into storescp; then QIDO-RS must find the SR in the source's study, and WADO-RS must give
it back equal. Debian's Orthanc binds every address whatever its configuration says, so all of it
runs in a network namespace without any interface but loopback (`unshare -n`, needs root).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email import policy
from email.parser import BytesParser
from pathlib import Path

import httpx
import pydicom
from pydicom.uid import generate_uid
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import pictures  # noqa: E402
from tests.checkpoints import build_checkpoint  # noqa: E402
from tests.fakes import FakeVllm  # noqa: E402
from tests.service.conftest import serve  # noqa: E402

from llmcxr_models.checkpoint import TOKENIZER, Checkpoint  # noqa: E402

INSIDE = "ROUND_TRIP_INSIDE"
PROGRAMS = ("Orthanc", "storescu", "storescp", "echoscu", "unshare", "ip")
HTTP_PORT, DICOM_PORT, STORE_PORT = 8042, 4242, 11113
GATEWAY_PORT, GATEWAY_DICOM_PORT = 8080, 11112
USER, PASSWORD = "llmcxr", "round-trip"
REPORT = "Findings: The lungs are clear. Impression: No acute cardiopulmonary abnormality."

RULES = """
[[rules]]
name = "chest"
modality = ["DX"]
action = "generate"
outputs = ["enhanced-sr", "secondary-capture"]
destinations = ["orthanc", "storescp"]
"""
DESTINATIONS = """
[queue]
poll_seconds = 0.1

[[destinations]]
name = "orthanc"
kind = "stow"
url = "http://127.0.0.1:{http}/dicom-web"
credentials = {{ username = "{user}", password_file = "{directory}/password" }}

[[destinations]]
name = "storescp"
kind = "c-store"
host = "127.0.0.1"
port = {store}
called_ae = "STORESCP"
"""


def missing_programs() -> list[str]:
    """What must be installed and is not; `orthanc-dicomweb` counts as a program."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return missing if plugin() else [*missing, "orthanc-dicomweb"]


def plugin() -> Path | None:
    """Orthanc's DICOMweb plugin."""
    found = sorted(Path("/usr").glob("*/orthanc/**/libOrthancDicomWeb.so*"))
    return found[-1] if found else None


def round_trip(directory: Path, *, real: bool) -> list[str]:
    """Do it all; what was seen, in sentences.

    Raises:
        AssertionError: something is not as it must be.
    """
    seen = []
    with ExitStack() as stack:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")},
            **gateway_settings(directory),
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        }
        environment |= stack.enter_context(language_model(directory, real=real))
        stack.enter_context(running(directory, "Orthanc", orthanc_command(directory)))
        stack.enter_context(running(directory, "storescp", storescp_command(directory)))
        gateway = [sys.executable, "-m", "llmcxr_service", "serve"]
        stack.enter_context(running(directory, "gateway", gateway, environment))
        orthanc = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{HTTP_PORT}/dicom-web",
                auth=(USER, PASSWORD),
                trust_env=False,
                timeout=30.0,
            )
        )
        client = httpx.Client(base_url=f"http://127.0.0.1:{GATEWAY_PORT}", trust_env=False)
        stack.enter_context(client)
        wait(lambda: answers(orthanc, "/studies"), 60.0, "Orthanc")
        wait(lambda: answers(client, "/health/ready"), 900.0, "the gateway")

        # 1. The modality sends to the archive, the router sends to the gateway.
        source = write_source(directory / "source.dcm")
        dcmtk("echoscu", "GATEWAY", GATEWAY_DICOM_PORT)
        dcmtk("storescu", "ORTHANC", DICOM_PORT, directory / "source.dcm")
        dcmtk("storescu", "GATEWAY", GATEWAY_DICOM_PORT, directory / "source.dcm")
        seen.append("storescu sent a radiograph to Orthanc and to the gateway")

        # 2. Both deliveries arrive.
        wait(lambda: done(client) == {"draft", "orthanc", "storescp"}, 300.0, "the deliveries")
        seen.append("the gateway made a report and delivered it to both destinations")

        # 3. QIDO-RS finds the SR in the study of its source.
        study = f"/studies/{source.StudyInstanceUID}"
        found = orthanc.get(f"{study}/series", headers=ACCEPT).json()
        modalities = sorted(series["00080060"]["Value"][0] for series in found)
        assert "DX" in modalities, modalities
        assert modalities.count("SR") == 1, modalities
        instances = orthanc.get(
            f"{study}/instances", params={"Modality": "SR"}, headers=ACCEPT
        ).json()
        uids = [i["00080018"]["Value"][0] for i in instances if i["00080060"]["Value"] == ["SR"]]
        assert len(uids) == 1
        seen.append(f"QIDO-RS finds series {', '.join(modalities)} in the source's study")

        # 4. WADO-RS gives it back equal.
        sent = spooled(directory, "enhanced-sr")
        series = next(i for i in instances if i["00080018"]["Value"][0] == uids[0])
        path = f"{study}/series/{series['0020000E']['Value'][0]}/instances/{uids[0]}"
        back = retrieve(orthanc, path)
        assert dataset(back) == dataset(sent)
        assert dataset(back).PatientID == source.PatientID
        same = "byte for byte" if back == sent else "data set by data set"
        seen.append(f"WADO-RS gives the SR back equal, {same}")

        # 5. C-STORE out: the same SR, and the page as Secondary Capture.
        taken = {dataset(p.read_bytes()).SOPInstanceUID: p for p in directory.glob("out/*")}
        assert len(taken) == 2
        for name in ("enhanced-sr", "secondary-capture"):
            ours = dataset(spooled(directory, name))
            assert dataset(taken[ours.SOPInstanceUID].read_bytes()) == ours
        seen.append("storescp holds the SR and the Secondary Capture, equal to what was made")
        report = subprocess.run(
            ["dsrdump", taken[dataset(sent).SOPInstanceUID]], capture_output=True, check=True
        )
        assert b"UNVERIFIED" in report.stdout or b"Unverified" in report.stdout
        seen.append("dsrdump reads the SR: preliminary, unverified")
    return seen


ACCEPT = {"Accept": "application/dicom+json"}


def gateway_settings(directory: Path) -> dict[str, str]:
    """Configuration of the gateway; writes its files."""
    (directory / "rules.toml").write_text(RULES)
    password = directory / "password"
    password.write_text(PASSWORD)
    text = DESTINATIONS.format(http=HTTP_PORT, store=STORE_PORT, user=USER, directory=directory)
    (directory / "destinations.toml").write_text(text)
    return {
        "LLMCXR_PORT": str(GATEWAY_PORT),
        "LLMCXR_OPEN": "true",
        "LLMCXR_DEVICE": "cpu",
        "LLMCXR_DICOM_RULES": str(directory / "rules.toml"),
        "LLMCXR_DESTINATIONS": str(directory / "destinations.toml"),
        "LLMCXR_SPOOL": str(directory / "spool"),
        "LLMCXR_DICOM_PORT": str(GATEWAY_DICOM_PORT),
        "LLMCXR_DICOM_AE_TITLE": "GATEWAY",
        "LLMCXR_DICOM_CALLING_AE_TITLES": "STORESCU",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


@contextmanager
def language_model(directory: Path, *, real: bool) -> Iterator[dict[str, str]]:
    """Settings for a scripted vLLM and a tiny checkpoint, or for the demo's own."""
    if real:
        demo = ROOT / "checkpoints" / "demo"
        yield {"LLMCXR_CHECKPOINT": str(demo), "LLMCXR_VLLM_EAGER": "true"}
        return
    path = build_checkpoint(directory / "checkpoint")
    checkpoint = Checkpoint.open(path)
    vocabulary = checkpoint.manifest.vocabulary
    answer = Tokenizer.from_file(str(path / TOKENIZER)).encode(REPORT).ids
    vllm = FakeVllm(
        checkpoint.manifest.served_name,
        vocabulary.size,
        max_model_len=checkpoint.manifest.max_model_len,
        answer=[*answer, vocabulary.stop_token_ids[0]],
    )
    with serve(vllm.app()) as url:
        yield {"LLMCXR_CHECKPOINT": str(path), "LLMCXR_VLLM_URL": url}


def orthanc_command(directory: Path) -> list[str]:
    """Orthanc with the DICOMweb plugin and a password."""
    configuration = {
        "Name": "Round trip",
        "StorageDirectory": str(directory / "orthanc"),
        "IndexDirectory": str(directory / "orthanc"),
        "Plugins": [str(plugin())],
        "HttpPort": HTTP_PORT,
        "DicomPort": DICOM_PORT,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": True,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    file = directory / "orthanc.json"
    file.write_text(json.dumps(configuration))
    return ["Orthanc", str(file)]


def storescp_command(directory: Path) -> list[str]:
    """DCMTK's SCP; +xa: every transfer syntax."""
    (directory / "out").mkdir()
    return ["storescp", "-aet", "STORESCP", "-od", str(directory / "out"), str(STORE_PORT)]


@contextmanager
def running(
    directory: Path, name: str, command: list[str], environment: dict[str, str] | None = None
) -> Iterator[None]:
    """A process with its log in the directory; ended in the end."""
    environment = environment or {
        **os.environ,
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
    }
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=directory)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_source(path: Path) -> pydicom.Dataset:
    """A radiograph of an invented patient."""
    path.write_bytes(
        pictures.dicom(
            1,
            StudyInstanceUID=generate_uid(),
            SeriesInstanceUID=generate_uid(),
            AccessionNumber="ACC-4711",
        )
    )
    return pydicom.dcmread(path)


def dcmtk(program: str, called: str, port: int, *files: Path) -> None:
    """One of DCMTK's users of a service."""
    command = [program, "-aet", "STORESCU", "-aec", called, "127.0.0.1", str(port)]
    subprocess.run([*command, *map(str, files)], check=True, timeout=60)


def done(client: httpx.Client) -> set[str]:
    """Targets whose delivery is done."""
    answer = client.get("/deliveries", params={"state": "done"}).raise_for_status().json()
    return {delivery["target"] for delivery in answer["deliveries"]}


def spooled(directory: Path, name: str) -> bytes:
    """What the gateway made."""
    (path,) = (directory / "spool" / "jobs").glob(f"*/outputs/{name}")
    return path.read_bytes()


def retrieve(client: httpx.Client, path: str) -> bytes:
    """One instance by WADO-RS."""
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    response = client.get(path, headers=accept).raise_for_status()
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=policy.HTTP).parsebytes(head + response.content)
    (part,) = message.iter_parts()
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def dataset(data: bytes) -> pydicom.Dataset:
    """A data set without its file meta information, which storage may change."""
    return pydicom.dcmread(io.BytesIO(data))


def answers(client: httpx.Client, path: str) -> bool:
    """Whether a server is up."""
    try:
        return client.get(path).is_success
    except httpx.HTTPError:
        return False


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def main() -> None:
    """Entry point: into a network namespace, and there through it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", action="store_true", help="The demo checkpoint, a real vLLM.")
    parser.add_argument("--keep", type=Path, help="An absent directory, for files and logs.")
    arguments = parser.parse_args()
    missing = missing_programs()
    if missing:
        sys.exit(f"Not installed: {', '.join(missing)}.")
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        script = 'ip link set lo up && exec "$@"'
        command = [sys.executable, __file__, *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "-n", "bash", "-c", script, "bash", *command])
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or Path(temporary)
        directory.mkdir(exist_ok=True)
        for sentence in round_trip(directory.resolve(), real=arguments.real):
            print(f"ok    {sentence}")


if __name__ == "__main__":
    main()
