"""Answers -> the JSON models of the API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from llmcxr_models.guidance import Guidance
from llmcxr_models.observations import Observation
from llmcxr_models.report import Report
from llmcxr_service.answers import (
    DrawnImage,
    ImageAnswer,
    ImageCandidate,
    Reconstruction,
    ReportAnswer,
    TextAnswer,
)
from llmcxr_service.generator import Sampling
from llmcxr_service.rendering import ModelIdentity, to_base64
from llmcxr_service.runtime import Runtime
from llmcxr_service.schemas import (
    CandidateAgreement,
    Code,
    GuidanceUsed,
    ImageOptions,
    Model,
    PromptFindings,
    ReportCandidate,
    ReportObservation,
    SamplingUsed,
    StreamMeta,
    TextOptions,
    Usage,
)
from llmcxr_service.schemas import GeneratedImage as ImageJson
from llmcxr_service.schemas import ImageCandidate as ImageCandidateJson
from llmcxr_service.schemas import ReconstructionAnswer as ReconstructionJson
from llmcxr_service.schemas import ReportAnswer as ReportJson

Options = TextOptions | ImageOptions


def report_json(runtime: Runtime, answer: ReportAnswer, options: TextOptions) -> ReportJson:
    """A drafted report."""
    report = Report.parse(answer.text)
    agreement = answer.agreement
    return ReportJson(
        findings=report.findings,
        impression=report.impression,
        text=answer.text,
        preprocessing=runtime.checkpoint.manifest.preprocessing.name,
        observations=[observation_json(o) for o in answer.observations],
        candidates=[_candidate(draft) for draft in answer.candidates],
        stated=None if answer.stated is None else list(answer.stated),
        agreement=agreement
        and CandidateAgreement(
            findings=round(agreement.findings, 6),
            text=round(agreement.text, 6),
            affirmed=agreement.affirmed,
        ),
        **written(runtime, answer, options),
    )


def image_json(image: DrawnImage, png: bytes) -> ImageJson:
    """One drawn image."""
    return ImageJson(
        png_base64=to_base64(png),
        codes=image.codes,
        seed=image.seed,
        mean_log_probability=image.mean_log_probability,
    )


def reconstruction_json(runtime: Runtime, result: Reconstruction, png: bytes) -> ReconstructionJson:
    """A radiograph as the VQ-GAN sees it."""
    return ReconstructionJson(
        png_base64=to_base64(png),
        codes=result.codes,
        psnr_db=result.quality.psnr_db,
        ms_ssim=result.quality.ms_ssim,
        model=_model(runtime.model),
        timings_ms=result.timings_ms,
        preprocessing=runtime.checkpoint.manifest.preprocessing.name,
        warnings=list(result.warnings),
    )


def meta(runtime: Runtime, sampling: Sampling, options: Options, *, radiograph: bool) -> StreamMeta:
    """What a stream says before its answer."""
    preprocessing = runtime.checkpoint.manifest.preprocessing.name if radiograph else None
    return StreamMeta(
        model=_model(runtime.model),
        seed=sampling.seed,
        sampling=_sampling(options),
        preprocessing=preprocessing,
    )


def written(runtime: Runtime, answer: TextAnswer, options: TextOptions) -> dict[str, Any]:
    """The fields that every answer in text has."""
    fields = drawn(runtime, answer, options, answer.seed)
    return fields | {"mean_log_probability": answer.mean_log_probability}


def all_drawn(
    runtime: Runtime, answer: ImageAnswer, options: ImageOptions, guidance: Guidance | None
) -> dict[str, Any]:
    """The fields that every answer with images has; the seed is the first one's."""
    wanted = answer.wanted
    return drawn(runtime, answer, options, answer.images[0].seed) | {
        "candidates": [_image_candidate(candidate) for candidate in answer.candidates],
        "guidance": guidance
        and GuidanceUsed(strength=guidance.strength, towards=list(guidance.towards)),
        "prompt_findings": wanted and PromptFindings.model_validate(asdict(wanted)),
    }


def drawn(
    runtime: Runtime, answer: TextAnswer | ImageAnswer, options: Options, seed: int
) -> dict[str, Any]:
    """The fields that every sampled answer has."""
    prompt_tokens, completion_tokens = answer.usage
    return {
        "model": _model(runtime.model),
        "seed": seed,
        "sampling": _sampling(options),
        "usage": Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
        "timings_ms": answer.timings_ms,
        "warnings": list(answer.warnings),
    }


def observation_json(observation: Observation) -> ReportObservation:
    """One observation."""
    finding, code = observation.finding, observation.finding.code
    return ReportObservation(
        name=finding.name,
        code=Code(value=code.value, scheme=code.scheme, meaning=code.meaning),
        probability=round(observation.probability, 6),
        mentioned=observation.mentioned,
    )


def _image_candidate(candidate: ImageCandidate) -> ImageCandidateJson:
    judgement = candidate.judgement
    agreement = judgement.agreement
    return ImageCandidateJson(
        seed=candidate.seed,
        chosen=candidate.chosen,
        agreement=None if agreement is None else round(agreement, 6),
        scores={finding: round(score, 6) for finding, score in judgement.scores.items()},
        mean_log_probability=candidate.mean_log_probability,
    )


def _candidate(draft: TextAnswer) -> ReportCandidate:
    report = Report.parse(draft.text)
    return ReportCandidate(
        findings=report.findings,
        impression=report.impression,
        text=draft.text,
        seed=draft.seed,
        completion_tokens=draft.usage[1],
        mean_log_probability=draft.mean_log_probability,
        warnings=list(draft.warnings),
    )


def _sampling(options: Options) -> SamplingUsed:
    longest = options.max_tokens if isinstance(options, TextOptions) else None
    return SamplingUsed(temperature=options.temperature, top_p=options.top_p, max_tokens=longest)


def _model(model: ModelIdentity) -> Model:
    return Model(name=model.name, version=model.version, digest=model.digest)
