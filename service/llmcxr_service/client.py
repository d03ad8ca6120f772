"""A client of the REST service, for the command line. Speaks HTTP only, knows no model."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx


class ServiceError(Exception):
    """The service refused, failed or is not there; the message is for a person."""


@dataclass(frozen=True)
class DrawnImage:
    """A synthetic radiograph as the service gave it.

    Attributes:
        png: the file, with its AI-generated mark and provenance.
        answer: the JSON beside it, without the image.
    """

    png: bytes
    answer: dict[str, Any]


class Client:
    """Calls a running service.

    Args:
        url: where it listens.
        key: API key, or token; None where it asks for none.
        timeout_seconds: for one call; a CPU may draw an image for a minute.
        transport: how it is reached instead of over the network.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 600.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        # A proxy would see radiographs; who needs one names the service's address behind it.
        self._http = httpx.Client(
            base_url=self._url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=timeout_seconds,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def report(
        self, radiograph: bytes, *, indication: str = "", seed: int | None = None
    ) -> dict[str, Any]:
        """The draft report of a DICOM, PNG or JPEG file.

        Raises:
            ServiceError: no report.
        """
        fields = {"indication": indication} if indication else {}
        if seed is not None:
            fields["seed"] = str(seed)
        # The file's own name may name a patient, so it does not travel.
        files = {"file": ("radiograph", radiograph, "application/octet-stream")}
        return self._json("/generate-report", files=files, data=fields)

    def image(self, report: str, *, seed: int | None = None) -> DrawnImage:
        """One synthetic radiograph of a report.

        Raises:
            ServiceError: no image.
        """
        body: dict[str, Any] = {"report": report}
        if seed is not None:
            body["seed"] = seed
        answer = self._json("/generate-image", json=body)
        (image,) = answer["images"]
        png = base64.b64decode(image.pop("png_base64"))
        return DrawnImage(png, answer)

    def reconstruct(self, radiograph: bytes) -> DrawnImage:
        """What the VQ-GAN keeps of a radiograph.

        Raises:
            ServiceError: no reconstruction.
        """
        files = {"file": ("radiograph", radiograph, "application/octet-stream")}
        answer = self._json("/reconstruct", files=files)
        return DrawnImage(base64.b64decode(answer.pop("png_base64")), answer)

    def not_ready(self) -> list[str] | None:
        """Why the service is not ready, as sentences; empty where it is, None where it is away."""
        try:
            response = self._http.get("/health/ready", timeout=10.0)
        except httpx.HTTPError:
            return None
        if response.status_code == httpx.codes.OK:
            return []
        try:
            return list(response.json().get("reasons") or ["It does not say why."])
        except ValueError:
            return ["Something else listens there."]

    def _json(self, path: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's own
        try:
            response = self._http.post(path, headers={"Accept": "application/json"}, **request)
        except httpx.ConnectError as error:
            raise ServiceError(
                f"Nothing answers at {self._url}. Start the service with `llmcxr serve`."
            ) from error
        except httpx.HTTPError as error:
            raise ServiceError(f"{self._url} did not answer ({type(error).__name__}).") from error
        if response.status_code != httpx.codes.OK:
            raise ServiceError(_explain(response))
        answer: dict[str, Any] = response.json()
        return answer


def _explain(response: httpx.Response) -> str:
    """A problem document as sentences."""
    try:
        problem = response.json()
    except ValueError:
        return f"The service answered with status {response.status_code}."
    words = [f"{problem.get('title', 'Error')} ({response.status_code})."]
    words += [problem["detail"]] if problem.get("detail") else []
    words += [f"{e['field']}: {e['problem']}" for e in problem.get("errors") or []]
    if "Retry-After" in response.headers:
        words.append(f"Try again in {response.headers['Retry-After']} seconds.")
    return " ".join(words)
