"""What a JSON answer says in its fields, as headers of the answers that have none."""

from __future__ import annotations

from llmcxr_service.answers import ImageAnswer, ReportAnswer, TextAnswer
from llmcxr_service.rendering import HowDrawn, ModelIdentity, provenance_headers


def text_headers(
    model: ModelIdentity, answer: TextAnswer, how: HowDrawn, preprocessing: str | None = None
) -> dict[str, str]:
    """Of an answer in text, or of a report as hospitals store it.

    Args:
        model: what made it.
        answer: itself.
        how: it was drawn.
        preprocessing: of the radiograph, where there was one.
    """
    headers = provenance_headers(
        model,
        how=how,
        timings_ms=answer.timings_ms,
        usage=answer.usage,
        preprocessing=preprocessing,
        warnings=answer.warnings,
    )
    headers |= _likelihood(answer.mean_log_probability)
    if isinstance(answer, ReportAnswer) and answer.agreement is not None:
        headers["X-Candidates"] = str(len(answer.candidates))
        headers["X-Agreement-Findings"] = f"{answer.agreement.findings:.6f}"
        headers["X-Agreement-Text"] = f"{answer.agreement.text:.6f}"
    return headers


def image_headers(model: ModelIdentity, answer: ImageAnswer, how: HowDrawn) -> dict[str, str]:
    """Of images that are not in JSON; what can be said of one only is, where there is one."""
    headers = provenance_headers(
        model,
        how=how,
        timings_ms=answer.timings_ms,
        usage=answer.usage,
        warnings=answer.warnings,
    )
    if len(answer.images) == 1:
        headers |= _likelihood(answer.images[0].mean_log_probability)
    for candidate in answer.candidates:
        if candidate.chosen:
            headers["X-Candidates"] = str(len(answer.candidates))
            agreement = candidate.judgement.agreement
            headers |= {} if agreement is None else {"X-Judge-Agreement": f"{agreement:.6f}"}
    return headers


def _likelihood(mean: float | None) -> dict[str, str]:
    return {} if mean is None else {"X-Mean-Log-Probability": f"{mean:.6f}"}
