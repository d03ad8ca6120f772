"""The dashboard of model quality: what can be seen of it without anybody's reading."""

from __future__ import annotations

from dashboard_json import Dashboard, Kind, Panel, Row
from dashboard_queries import count, mean, q, quantile, rate, share

_MODEL = Row(
    "Checkpoint",
    (
        Panel(
            "Served",
            (q("count by (name, version, digest) (llmcxr_model_info)"),),
            kind=Kind.TABLE,
            width=12,
        ),
        Panel(
            "Answers that should be an image and are",
            (
                q("1 - llmcxr:image_tokens_invalid:ratio_1h", "valid, 1 h"),
                q(
                    "1 - sum(rate(llmcxr_image_tokens_invalid_total[5m]))"
                    " / sum(rate(llmcxr_image_answers_total[5m]))",
                    "valid, 5 min",
                ),
            ),
            "By construction 100 %: anything less is a fault of the language model's server.",
            "percentunit",
            width=12,
        ),
    ),
)

_ANSWERS = Row(
    "Answers",
    (
        Panel(
            "Per second, by what ended them",
            (rate("llmcxr_answers_total", "task", "finish"),),
            "length: the answer was cut off, except for images, which always end so.",
        ),
        Panel(
            "How little the model expected its own answer",
            (mean("llmcxr_answer_nats_per_token", "task", window="1h"),),
            "Mean negative log-probability of a token, nats, 1 h. Other pictures or another"
            " checkpoint move it.",
        ),
        Panel(
            "The same: 95th percentile",
            (quantile(0.95, "llmcxr_answer_nats_per_token", "task"),),
        ),
        Panel("Tokens of an answer, mean", (mean("llmcxr_answer_tokens", "task"),)),
        Panel(
            "Share with a warning, 1 h",
            (
                q(
                    "sum by (task) (increase(llmcxr_warned_answers_total[1h]))"
                    " / sum by (task) (increase(llmcxr_texts_total[1h]))",
                    "{{task}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel("Without any text, an hour", (count("llmcxr_empty_answers_total", "task"),)),
    ),
)

_FINDINGS = Row(
    "Findings",
    (
        Panel(
            "Mean probability by finding, 1 h",
            (mean("llmcxr_finding_probability", "finding", window="1h"),),
            "The model's own answers. How ill the patients are moves it, and so do other devices.",
            "percentunit",
            width=12,
        ),
        Panel(
            "Share of radiographs with the finding likely, 1 h",
            (
                q(
                    "1 - sum by (finding)"
                    ' (increase(llmcxr_finding_probability_bucket{le="0.5"}[1h]))'
                    " / sum by (finding) (increase(llmcxr_finding_probability_count[1h]))",
                    "{{finding}}",
                ),
            ),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Reports that contradict the model's own answers, 1 h",
            (
                share(
                    "llmcxr_contradicted_reports_total",
                    'llmcxr_texts_total{task="report"}',
                    legend="share",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Drift of likelihood over a week",
            (
                q(
                    "llmcxr:answer_nats_per_token:mean1d"
                    " / (llmcxr:answer_nats_per_token:mean1d offset 7d)",
                    "{{task}}",
                ),
            ),
            "1: as a week ago. Empty in the first week.",
            quiet=True,
        ),
        Panel(
            "Mean probability by finding, a day",
            (q("llmcxr:finding_probability:mean1d", "{{finding}}"),),
            unit="percentunit",
        ),
    ),
)

_PICTURES = Row(
    "Pictures",
    (
        Panel(
            "What the VQ-GAN keeps of a radiograph",
            (
                quantile(0.5, "llmcxr_reconstruction_psnr_db", legend="median"),
                quantile(0.05, "llmcxr_reconstruction_psnr_db", legend="worst twentieth"),
            ),
            "PSNR of /reconstruct.",
            "dB",
            width=12,
        ),
        Panel(
            "Refused as no chest radiograph, an hour",
            (
                count(
                    "llmcxr_rejections_total",
                    "reason",
                    where='reason=~"no-chest-radiograph|inverted|turned|view-position'
                    '|secondary-capture|modality"',
                ),
            ),
            width=12,
            quiet=True,
        ),
    ),
)

QUALITY = Dashboard(
    "llmcxr-quality",
    "LLM-CXR model quality",
    "For whoever answers for the model: does it still answer as it did?",
    (_MODEL, _ANSWERS, _FINDINGS, _PICTURES),
    hours=24,
)
