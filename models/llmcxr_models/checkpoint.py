"""The checkpoint directory: what the service serves and training writes.

    manifest.json        everything below, and the SHA-256 of every other file
    vqgan.safetensors    the image tokenizer
    gate.safetensors     looks whether a picture is a chest radiograph; may be missing
    judge.safetensors    sees findings, to pick among several drawn images; may be missing
    llm/                 exactly the directory that vLLM serves (config, tokenizer, safetensors)
    llm/guidance/        which codes speak for a finding, for drawing; may be missing

Weights are safetensors only; a pickle is never opened here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmcxr_models.errors import DigestMismatch, InvalidCheckpoint
from llmcxr_models.finding_tilt import TABLES
from llmcxr_models.gate import GATE_WEIGHTS, Gate, GateConfig
from llmcxr_models.guidance import GuidanceConfig
from llmcxr_models.judge import JUDGE_WEIGHTS, Judge, JudgeConfig
from llmcxr_models.observations import observable_findings
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.prompt import TEMPLATES, PromptBuilder
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.stored_weights import with_weights
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_models.vqgan import VqGan, VqGanConfig

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
VQGAN_WEIGHTS = "vqgan.safetensors"
LLM_FOLDER = "llm"
TOKENIZER = f"{LLM_FOLDER}/tokenizer.json"


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is.

    Attributes:
        name: of the model, for people and answers.
        version: of the model.
        template: key of `prompt.TEMPLATES`.
        vocabulary: where the image tokens are.
        vqgan: geometry of the image tokenizer.
        preprocessing: how files become its pixels.
        views: `frontal`, `lateral`: what it was trained on.
        max_model_len: longest sequence, tokens.
        files: SHA-256 of each file, by path relative to the directory.
        provenance: data, base model, git state, training lengths; for people.
        findings: names of `OBSERVABLE_FINDINGS` that it was taught to answer with yes or no.
        gate: geometry and thresholds of its gate on pixels, where it has one.
        judge: geometry and findings of the judge that picks among drawn images, where it has
            one; never the judge that measures.
        guidance: findings and strength of its guidance while drawing, where it has tables.
        stated_from: some of `findings` with the least probability of a yes from which on they
            are stated in the prompt of a report; empty where it was not taught that.
    """

    name: str
    version: str
    template: str
    vocabulary: Vocabulary
    vqgan: VqGanConfig
    preprocessing: Preprocessing
    views: tuple[str, ...]
    max_model_len: int
    files: dict[str, str]
    provenance: dict[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    gate: GateConfig | None = None
    judge: JudgeConfig | None = None
    guidance: GuidanceConfig | None = None
    stated_from: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        observable_findings(self.findings)
        if set(self.stated_from) - set(self.findings):
            raise InvalidCheckpoint("the manifest states findings that it does not ask about.")
        if not all(0.0 < float(least) <= 1.0 for least in self.stated_from.values()):
            raise InvalidCheckpoint("the manifest states findings by what is no probability.")
        if self.template not in TEMPLATES:
            raise InvalidCheckpoint("the manifest names an unknown prompt template.")
        if self.vqgan.grid_size**2 != self.vocabulary.image_length:
            raise InvalidCheckpoint("image_length is not the number of codes of the VQ-GAN.")
        if self.vqgan.codebook_size != self.vocabulary.codebook_size:
            raise InvalidCheckpoint("vocabulary and VQ-GAN have different codebooks.")
        tables = f"{LLM_FOLDER}/{TABLES.as_posix()}"
        if self.guidance is not None and self.files and tables not in self.files:
            raise InvalidCheckpoint("the manifest speaks of guidance and names no tables.")
        expected = (self.vqgan.image_size, self.vqgan.image_channels)
        if (self.preprocessing.image_size, self.preprocessing.channels) != expected:
            raise InvalidCheckpoint(
                "preprocessing makes pixels of another shape than the VQ-GAN's."
            )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical manifest: one value names all weights and settings."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def served_name(self) -> str:
        """The name under which vLLM must serve the model, so that a mismatch is seen."""
        return f"{self.name}-{self.digest[:12]}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "template": self.template,
            "vocabulary": {
                **asdict(self.vocabulary),
                "stop_token_ids": list(self.vocabulary.stop_token_ids),
            },
            "vqgan": self.vqgan.to_dict(),
            "preprocessing": asdict(self.preprocessing),
            "views": list(self.views),
            "max_model_len": self.max_model_len,
            "files": dict(sorted(self.files.items())),
            "provenance": self.provenance,
            # Left out where there is none: older manifests keep their digest.
            **({"findings": list(self.findings)} if self.findings else {}),
            **({"gate": self.gate.to_dict()} if self.gate else {}),
            **({"judge": self.judge.to_dict()} if self.judge else {}),
            **({"guidance": self.guidance.to_dict()} if self.guidance else {}),
            **({"stated_from": self.stated_from} if self.stated_from else {}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Manifest:
        """The inverse of `to_dict`.

        Raises:
            InvalidCheckpoint: another format version, or a missing, unknown or ill-typed field.
        """
        if values.get("format_version") != FORMAT_VERSION:
            raise InvalidCheckpoint(f"the manifest is not of format version {FORMAT_VERSION}.")
        plain = {k: v for k, v in values.items() if k != "format_version"}
        gate, judge = plain.pop("gate", None), plain.pop("judge", None)
        guidance = plain.pop("guidance", None)
        try:
            vocabulary = dict(plain.pop("vocabulary"))
            vocabulary["stop_token_ids"] = tuple(vocabulary["stop_token_ids"])
            preprocessing = dict(plain.pop("preprocessing"))
            preprocessing["pipeline"] = Pipeline(preprocessing["pipeline"])
            preprocessing["geometry"] = Geometry(preprocessing["geometry"])
            return cls(
                vocabulary=Vocabulary(**vocabulary),
                vqgan=VqGanConfig.from_dict(plain.pop("vqgan")),
                preprocessing=Preprocessing(**preprocessing),
                views=tuple(plain.pop("views")),
                findings=tuple(plain.pop("findings", ())),
                stated_from=dict(plain.pop("stated_from", {})),
                gate=None if gate is None else GateConfig.from_dict(gate),
                judge=None if judge is None else JudgeConfig.from_dict(judge),
                guidance=None if guidance is None else GuidanceConfig.from_dict(guidance),
                **plain,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidCheckpoint(f"the manifest is not complete: {error}.") from error


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint directory.

    Attributes:
        path: the directory.
        manifest: its manifest.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Checkpoint:
        """Read the manifest and, unless told otherwise, check every file's digest.

        Raises:
            InvalidCheckpoint: a missing or malformed manifest, or a missing file.
            DigestMismatch: a file is not the one that the manifest names.
        """
        checkpoint = cls(path, read_manifest(path))
        if verify:
            verify_files(path, checkpoint.manifest.files)
        return checkpoint

    @property
    def llm_path(self) -> Path:
        """The directory for vLLM."""
        return self.path / LLM_FOLDER

    def load_vqgan(self) -> VqGan:
        """The image tokenizer with its weights.

        Raises:
            InvalidCheckpoint: the weights are unreadable or of another shape.
        """
        path, refusal = self.path / VQGAN_WEIGHTS, f"{VQGAN_WEIGHTS} does not fit the manifest."
        return with_weights(VqGan(self.manifest.vqgan), path, refusal)

    def load_gate(self) -> Gate | None:
        """The gate on pixels with its weights; None where the checkpoint has none.

        Raises:
            InvalidCheckpoint: the weights are unreadable or of another shape.
        """
        if self.manifest.gate is None:
            return None
        return Gate.load(self.path / GATE_WEIGHTS, self.manifest.gate)

    def load_judge(self) -> Judge | None:
        """The judge that picks among drawn images; None where the checkpoint has none.

        Raises:
            InvalidCheckpoint: the weights are unreadable or of another shape.
        """
        if self.manifest.judge is None:
            return None
        return Judge.with_weights(self.path / JUDGE_WEIGHTS, self.manifest.judge)

    def load_tokenizer(self) -> TextTokenizer:
        """The text tokenizer.

        Raises:
            InvalidCheckpoint: it cannot be read, or has another size than the vocabulary.
        """
        tokenizer = TextTokenizer(self.path / TOKENIZER)
        vocabulary = self.manifest.vocabulary
        # The official release keeps its image ids outside the tokenizer.
        if tokenizer.size not in {vocabulary.size, vocabulary.image_offset}:
            raise InvalidCheckpoint("the tokenizer does not fit the vocabulary.")
        return tokenizer

    def load_prompts(self) -> PromptBuilder:
        """Prompts in this checkpoint's template and vocabulary."""
        manifest = self.manifest
        return PromptBuilder(manifest.template, manifest.vocabulary, self.load_tokenizer())


def read_manifest(path: Path) -> Manifest:
    """Read `manifest.json` of a directory.

    Raises:
        InvalidCheckpoint: it is missing or malformed.
    """
    try:
        values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidCheckpoint(f"there is no {MANIFEST} in the checkpoint directory.") from error
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{MANIFEST} cannot be read.") from error
    if not isinstance(values, dict):
        raise InvalidCheckpoint(f"{MANIFEST} is not a JSON object.")
    return Manifest.from_dict(values)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically; last of all files, so a directory with one is whole."""
    temporary = path / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps(manifest.to_dict(), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path / MANIFEST)


def hash_files(path: Path) -> dict[str, str]:
    """SHA-256 of every file below `path` but the manifest, by relative path."""
    return {
        file.relative_to(path).as_posix(): sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }


def verify_files(path: Path, files: dict[str, str]) -> None:
    """Check files against their digests.

    Raises:
        InvalidCheckpoint: a file is missing.
        DigestMismatch: a file is another one.
    """
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise InvalidCheckpoint(f"{name} is missing from the checkpoint directory.")
        if sha256(file) != expected:
            raise DigestMismatch(f"{name} is not the file that the manifest names.")


def sha256(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
