"""JSON of requests and answers. Requests are strict: unknown fields and NaN are refused."""

from __future__ import annotations

import base64
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmcxr_models.guidance_request import LARGEST_STRENGTH
from llmcxr_service.uids import UID_MAX_LENGTH, UID_PATTERN

MAX_SEED = 2**32 - 1
MAX_IMAGES = 8
MAX_CANDIDATES = 8
MAX_TOKENS = 1024

# LLM-CXR was published with top_p 0.92 and temperature 1. A model that has learnt as little as
# the demo's loses the layout of a chest there now and then; at 0.85 it mostly keeps it.
_IMAGE_TEMPERATURE, _IMAGE_TOP_P = 0.85, 0.92
# Greedy: a draft report is the model's best guess, not one of many.
_TEXT_TEMPERATURE = 0.0

Seed = Annotated[
    int | None,
    Field(default=None, ge=0, le=MAX_SEED, description="Drawn at random where absent."),
]
Temperature = Annotated[float, Field(ge=0.0, le=2.0, description="0 is greedy.")]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]
Uid = Annotated[str, Field(pattern=UID_PATTERN, max_length=UID_MAX_LENGTH)]
MaxTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class TextOptions(_Request):
    """How text is drawn."""

    seed: Seed = None
    temperature: Temperature = _TEXT_TEMPERATURE
    top_p: TopP = 1.0
    max_tokens: MaxTokens = 256


class ReportOptions(TextOptions):
    """Form fields beside a radiograph for a report."""

    indication: str = Field(default="", description="Why the study was made.")
    n: int = Field(
        default=1,
        ge=1,
        le=MAX_CANDIDATES,
        description="Drafts; their seeds are seed, seed + 1, ... More than one needs a temperature"
        " above 0. The answer is the one that the others agree with most.",
    )

    @model_validator(mode="after")
    def _drafts_differ(self) -> Self:
        if self.n > 1 and self.temperature == 0.0:
            raise ValueError("several drafts need a temperature above 0")
        return self


class DicomwebInstance(_Request):
    """An instance in an archive that the configuration names."""

    source: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,31}$", description="Name of the archive; never a URL."
    )
    study: Uid = Field(description="Study Instance UID.")
    series: Uid = Field(description="Series Instance UID.")
    instance: Uid = Field(description="SOP Instance UID.")


class ReportPull(ReportOptions):
    """A radiograph that is fetched by WADO-RS, instead of one that is sent along."""

    dicomweb: DicomwebInstance


class QuestionOptions(TextOptions):
    """Form fields beside a radiograph for a question."""

    question: str
    max_tokens: MaxTokens = 128


class NoOptions(_Request):
    """Nothing to set."""


class ImageOptions(_Request):
    """How images are drawn."""

    seed: Seed = None
    temperature: Temperature = _IMAGE_TEMPERATURE
    top_p: TopP = _IMAGE_TOP_P
    n: int = Field(
        default=1, ge=1, le=MAX_IMAGES, description="Images; their seeds are seed, seed + 1, ..."
    )
    best_of: int = Field(
        default=1,
        ge=1,
        le=MAX_IMAGES,
        description="Above 1: so many images are drawn, and the answer is the one that agrees most"
        " with the report's findings, by the checkpoint's judge. With `n` of 1 only.",
    )
    guidance: float | None = Field(
        default=None,
        ge=0.0,
        le=LARGEST_STRENGTH,
        description="How strongly images lean towards the findings that the report affirms, in"
        " nats of their tokens' logits; 0 for the model alone. Absent, the checkpoint's own"
        " strength.",
    )

    @model_validator(mode="after")
    def _one_is_picked(self) -> Self:
        if self.best_of > 1 and self.n > 1:
            raise ValueError("the best of several is one image, so n must be 1")
        if self.best_of > 1 and self.temperature == 0.0:
            raise ValueError("several images need a temperature above 0")
        return self

    @property
    def drawn(self) -> int:
        """Images that the model draws."""
        return max(self.n, self.best_of)


class ImageRequest(ImageOptions):
    """A report to draw."""

    report: str


class InstructionRequest(TextOptions):
    """A plain instruction in natural language."""

    instruction: str
    input: str = ""


class Model(BaseModel):
    """Which weights and settings answered."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the checkpoint's manifest.")


class Usage(BaseModel):
    """Tokens of the language model."""

    prompt_tokens: int
    completion_tokens: int


class SamplingUsed(BaseModel):
    """How the answer was drawn."""

    temperature: float
    top_p: float
    max_tokens: int | None = Field(
        default=None, description="Longest answer that was asked for; null for an image."
    )


class _Answer(BaseModel):
    model: Model
    timings_ms: dict[str, float] = Field(description="Stages and total, milliseconds.")
    warnings: list[str]
    ai_generated: Literal[True] = True


class _Drawn(_Answer):
    seed: int
    sampling: SamplingUsed
    usage: Usage


_MeanLogProbability = Annotated[
    float | None,
    Field(
        default=None,
        description="Of a token of the answer: natural logarithm, before temperature and"
        " constraint. Null where the language model's server gives none.",
    ),
]


class _Written(_Drawn):
    mean_log_probability: _MeanLogProbability


class Code(BaseModel):
    """A coded concept."""

    value: str
    scheme: str = Field(description="`SCT` is SNOMED CT, `99LLMCXR` our own.")
    meaning: str


class ReportObservation(BaseModel):
    """What the model says of one finding."""

    name: str
    code: Code
    probability: float = Field(ge=0.0, le=1.0, description="Of yes against no; not calibrated.")
    mentioned: bool | None = Field(
        description="Whether the report's text affirms it; null where it cannot be told."
    )


class ReportCandidate(BaseModel):
    """One of several drafts."""

    findings: str
    impression: str
    text: str
    seed: int
    completion_tokens: int
    mean_log_probability: _MeanLogProbability
    warnings: list[str]


class CandidateAgreement(BaseModel):
    """How far several drafts agree: 1 is the same, 0 is nothing in common."""

    findings: float = Field(
        ge=0.0, le=1.0, description="Mean over pairs of shared findings among all affirmed ones."
    )
    text: float = Field(ge=0.0, le=1.0, description="Mean over pairs of the F1 of their words.")
    affirmed: dict[str, float] = Field(description="Share of drafts that affirm a finding.")


class ReportAnswer(_Written):
    """A draft report."""

    findings: str
    impression: str
    text: str
    preprocessing: str
    observations: list[ReportObservation] = Field(
        description="Empty where the checkpoint was not taught to answer by yes or no."
    )
    candidates: list[ReportCandidate] = Field(
        default=[], description="All drafts, the answer among them, where `n` is above 1."
    )
    agreement: CandidateAgreement | None = None
    stated: list[str] | None = Field(
        default=None,
        description="Findings that the prompt has stated, by the model's own answers; null where"
        " the checkpoint was not taught to write by such statements.",
    )


class QuestionAnswer(_Written):
    """An answer about a radiograph."""

    answer: str
    preprocessing: str


class InstructionAnswer(_Written):
    """The response to an instruction."""

    response: str


class GeneratedImage(BaseModel):
    """One synthetic radiograph."""

    png_base64: str
    codes: list[int]
    seed: int
    mean_log_probability: _MeanLogProbability

    @property
    def png(self) -> bytes:
        """The file, with its AI-generated mark and provenance."""
        return base64.b64decode(self.png_base64)


class ImageCandidate(BaseModel):
    """One of the images that the best was picked from."""

    seed: int
    chosen: bool
    agreement: float | None = Field(
        ge=0.0,
        le=1.0,
        description="Of the judge's scores with the report's findings: the mean of the wanted"
        " ones' mean score and the others' mean of 1 - score. Null where the report leaves all"
        " of them open.",
    )
    scores: dict[str, float] = Field(description="The judge's, by finding; not calibrated.")
    mean_log_probability: _MeanLogProbability


class PromptFindings(BaseModel):
    """What the rule-based labeller for English reports reads in the prompt."""

    present: list[str]
    absent: list[str] = Field(description="Denied, or not spoken of.")
    left_open: list[str] = Field(description="Uncertain; they do not count.")
    unseen: list[str] = Field(description="Affirmed, but unknown to the judge.")


class GuidanceUsed(BaseModel):
    """What the images lean towards."""

    strength: float = Field(description="Nats.")
    towards: list[str] = Field(
        description="Findings that the report affirms and the checkpoint's tables know."
    )


class _Images(_Drawn):
    guidance: GuidanceUsed | None = Field(
        default=None,
        description="Null where the model drew alone: the strength is 0, the checkpoint has no"
        " tables, or they know nothing of what the report affirms.",
    )
    candidates: list[ImageCandidate] = Field(
        default=[], description="All that were drawn, where `best_of` is above 1."
    )
    prompt_findings: PromptFindings | None = Field(
        default=None, description="What the candidates were judged by."
    )


class ImagesAnswer(_Images):
    """Synthetic radiographs."""

    images: list[GeneratedImage]


class ImagesDone(_Images):
    """The end of a stream of images; the images themselves came before it."""


class ReconstructionAnswer(_Answer):
    """What the VQ-GAN keeps of a radiograph."""

    png_base64: str
    codes: list[int]
    psnr_db: float
    ms_ssim: float
    preprocessing: str

    @property
    def png(self) -> bytes:
        """The file, with its AI-generated mark and provenance."""
        return base64.b64decode(self.png_base64)


class StreamMeta(BaseModel):
    """The first event of a stream: what will answer, and how."""

    model: Model
    seed: int
    sampling: SamplingUsed
    preprocessing: str | None = Field(description="Null without a radiograph.")
    ai_generated: Literal[True] = True


class TextDelta(BaseModel):
    """The next characters of `findings`, `impression` or `text`."""

    text: str


class ImageProgress(BaseModel):
    """How much of an image is drawn."""

    image: int = Field(description="Its index; from 0.")
    tokens: int
    of: int


class StreamedImage(GeneratedImage):
    """One image of a stream."""

    image: int


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    field: str
    problem: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem details."})

    type: str = Field(description="Stable relative URI of this kind of problem.")
    title: str
    status: int
    detail: str | None = None
    reason: str | None = Field(default=None, description="Machine-readable cause.")
    request_id: str
    errors: list[FieldError] | None = Field(default=None, description="For an invalid request.")
    reasons: list[str] | None = Field(default=None, description="Why the service is not ready.")
