"""Answers -> PNG and headers, always with where they come from and that no person made them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from llmcxr_models.checkpoint import Manifest
from llmcxr_service.generator import Sampling

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC NewsCodes: created by a model trained on samples."""

_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    f' Iptc4xmpExt:DigitalSourceType="{TRAINED_ALGORITHMIC_MEDIA}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights and settings made an answer.

    Attributes:
        name: of the model.
        version: of the model.
        digest: SHA-256 of its manifest, hexadecimal.
    """

    name: str
    version: str
    digest: str

    @classmethod
    def of(cls, manifest: Manifest) -> ModelIdentity:
        """The identity of a checkpoint; computes its digest once."""
        return cls(manifest.name, manifest.version, manifest.digest)


@dataclass(frozen=True)
class HowDrawn:
    """How an answer was drawn: what has to be the same, beside model and input, to draw it again.

    Attributes:
        sampling: with the seed of this very answer.
        max_tokens: longest text that was asked for; None for an image.
        picked_from: images that it is the best of, by the checkpoint's judge.
    """

    sampling: Sampling
    max_tokens: int | None = None
    picked_from: int = 1

    @property
    def sentence(self) -> str:
        """For people; fields of files hold it too."""
        drawn = self.sampling
        parts = [f"seed {drawn.seed}, temperature {drawn.temperature:g}, top_p {drawn.top_p:g}"]
        if self.max_tokens is not None:
            parts.append(f"at most {self.max_tokens} tokens")
        if self.picked_from > 1:
            parts.append(f"picked from {self.picked_from} by the checkpoint's judge")
        if drawn.guidance is not None:
            parts.append(f"guided by {drawn.guidance.strength:g}")
        return f"Drawn with {', '.join(parts)}."


def render_png(
    grey: NDArray[np.uint8], model: ModelIdentity, *, how: HowDrawn | None = None
) -> bytes:
    """A PNG of 8-bit grey values (H, W) whose text chunks say that it is synthetic.

    Args:
        grey: the picture.
        model: what made it.
        how: it was drawn; None for a reconstruction.
    """
    chunks = PngInfo()
    chunks.add_text("AI-generated", "yes")
    chunks.add_text("Software", "llmcxr")
    chunks.add_itxt("Model", f"{model.name} {model.version}")
    chunks.add_text("Model-Digest", f"sha256:{model.digest}")
    if how is not None:
        chunks.add_text("Seed", str(how.sampling.seed))
        chunks.add_text("Sampling", how.sentence)
    chunks.add_text("Disclaimer", "Synthetic image, research use only")
    chunks.add_text("DigitalSourceType", TRAINED_ALGORITHMIC_MEDIA)
    chunks.add_itxt("XML:com.adobe.xmp", _XMP)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def to_base64(data: bytes) -> str:
    """Standard base64, as JSON carries pictures."""
    return base64.b64encode(data).decode("ascii")


def provenance_headers(
    model: ModelIdentity,
    *,
    how: HowDrawn | None,
    timings_ms: dict[str, float],
    usage: tuple[int, int] | None = None,
    preprocessing: str | None = None,
    warnings: tuple[str, ...] = (),
) -> dict[str, str]:
    """What a JSON answer says in its fields, for the answers that have none.

    Args:
        model: what made the answer.
        how: the answer was drawn, if it was.
        timings_ms: stages, milliseconds; in the standard Server-Timing header.
        usage: prompt and completion tokens.
        preprocessing: of an input radiograph.
        warnings: sentences.
    """
    headers = {
        "X-AI-Generated": "true",
        "X-Model-Name": model.name,
        "X-Model-Version": model.version,
        "X-Model-Digest": model.digest,
        "Server-Timing": ", ".join(f"{stage};dur={ms}" for stage, ms in timings_ms.items()),
    }
    if how is not None:
        headers["X-Seed"] = str(how.sampling.seed)
        headers["X-Temperature"] = str(how.sampling.temperature)
        headers["X-Top-P"] = str(how.sampling.top_p)
        if how.sampling.guidance is not None:
            headers["X-Guidance"] = str(how.sampling.guidance.strength)
    if how is not None and how.max_tokens is not None:
        headers["X-Max-Tokens"] = str(how.max_tokens)
    if usage is not None:
        headers["X-Prompt-Tokens"], headers["X-Completion-Tokens"] = map(str, usage)
    if preprocessing is not None:
        headers["X-Preprocessing"] = preprocessing
    if warnings:
        headers["X-Warnings"] = " ".join(warnings)
    # A header is ASCII on one line, whatever a manifest's name may hold.
    return {k: " ".join(v.encode("ascii", "replace").decode().split()) for k, v in headers.items()}
