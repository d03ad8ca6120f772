"""The dashboard of the service: requests, their stages, refusals, the process, the objectives."""

from __future__ import annotations

from dashboard_json import Dashboard, Panel, Row
from dashboard_queries import count, happened, mean, number, q, quantile, rate, worst

_BAD_AT_0 = ((None, "red"), (1.0, "green"))
_BURN = ((None, "green"), (1.0, "orange"), (6.0, "red"))

_OURS = '{route!~"/health/.*|/metrics"}'
"""Without those who watch."""

_OVERVIEW = Row(
    "Now",
    (
        number(
            "Answered, 6 h",
            "1 - (llmcxr:requests_failed:ratio_rate6h or vector(0))",
            "percentunit",
            thresholds=((None, "red"), (0.995, "green")),
            description="Of the requests that were answered or failed. The objective is 99.5 %.",
        ),
        number(
            "In time, 6 h",
            "1 - llmcxr:requests_slow:ratio_rate6h",
            "percentunit",
            thresholds=((None, "red"), (0.95, "green")),
            description="Reports and radiographs within the objective's seconds; 95 %.",
        ),
        number("Requests per second", f"sum(llmcxr:requests:rate5m{_OURS})", "reqps"),
        number(
            "Places taken",
            "max(llmcxr_pending_requests / llmcxr_pending_limit)",
            "percentunit",
            thresholds=((None, "green"), (0.7, "orange"), (0.9, "red")),
        ),
        number("Gateways that see a vLLM", "sum(llmcxr_vllm_up)", thresholds=_BAD_AT_0),
        number(
            "Alerts",
            'count(ALERTS{alertname=~"Llmcxr.*", alertstate="firing"}) or vector(0)',
            thresholds=((None, "green"), (1.0, "red")),
        ),
    ),
)

_RED = Row(
    "Requests",
    (
        Panel(
            "Requests by route and outcome",
            (q("llmcxr:requests:rate5m" + _OURS, "{{route}} {{outcome}}"),),
            "answered, refused (the caller's own doing), failed (ours)",
            "reqps",
            stacked=True,
        ),
        Panel(
            "Requests by status",
            (rate("llmcxr_requests_total", "method", "status"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Share that failed",
            (q("llmcxr:requests_failed:ratio_rate5m or vector(0)", "5 min"),),
            unit="percentunit",
        ),
        Panel(
            "Median time by route",
            (q("llmcxr:request_seconds:p50_5m" + _OURS, "{{route}}"),),
            unit="s",
        ),
        Panel(
            "95th percentile", (q("llmcxr:request_seconds:p95_5m" + _OURS, "{{route}}"),), unit="s"
        ),
        Panel(
            "99th percentile", (q("llmcxr:request_seconds:p99_5m" + _OURS, "{{route}}"),), unit="s"
        ),
    ),
)

_STAGES = Row(
    "Stages of a request",
    (
        Panel(
            "Median time in a stage", (quantile(0.5, "llmcxr_stage_seconds", "stage"),), unit="s"
        ),
        Panel(
            "95th percentile",
            (q("llmcxr:stage_seconds:p95_5m", "{{stage}}"),),
            "decode: the file; encode, draw: the VQ-GAN; generate, observe: the language model",
            "s",
        ),
        Panel(
            "In a stage now",
            (q("sum by (stage) (llmcxr_stage_items)", "{{stage}}"),),
            "Waiting for a worker, or worked on.",
            stacked=True,
        ),
        Panel(
            "Wait for a worker, 95th percentile",
            (quantile(0.95, "llmcxr_wait_seconds", "stage"),),
            unit="s",
        ),
        Panel("Images that the VQ-GAN takes at once", (mean("llmcxr_micro_batch_size", "kind"),)),
        Panel(
            "Requests in work",
            (
                q("sum(llmcxr_pending_requests)", "in work"),
                q("sum(llmcxr_pending_limit)", "limit"),
            ),
        ),
        Panel("Tokens per second", (rate("llmcxr_tokens_total", "direction"),), "By the gateway."),
    ),
)

_REFUSALS = Row(
    "What is not served",
    (
        Panel("By reason, an hour", (count("llmcxr_rejections_total", "reason"),), stacked=True),
        Panel(
            "Callers not let in, an hour",
            (happened("llmcxr_access_refusals_total", "cause"),),
            stacked=True,
            quiet=True,
        ),
        Panel(
            "Decode workers replaced before their time, an hour",
            (count("llmcxr_decode_worker_restarts_total", "reason"),),
        ),
    ),
)

_PROCESS = Row(
    "Process and host",
    (
        Panel(
            "Memory",
            (q("process_resident_memory_bytes", "{{job}} {{instance}}"),),
            "The gateway's own process; decode workers are children of their own.",
            "bytes",
        ),
        Panel(
            "Processor",
            (q("rate(process_cpu_seconds_total[5m])", "{{job}} {{instance}}"),),
            "Cores in use.",
        ),
        Panel(
            "Open files",
            (q("process_open_fds / process_max_fds", "{{job}} {{instance}}"),),
            unit="percentunit",
        ),
        Panel(
            "Disk that is free",
            (q("llmcxr_disk_free_bytes / llmcxr_disk_size_bytes", "{{place}} {{instance}}"),),
            unit="percentunit",
        ),
        Panel(
            "Days to the end of certificates",
            (
                q(
                    "(llmcxr_certificate_expiry_timestamp_seconds - time()) / 86400",
                    "{{certificate}} {{instance}}",
                ),
            ),
            "Only where the gateway speaks TLS itself.",
            quiet=True,
        ),
        Panel(
            "Age of the issuer's keys",
            (worst("(time() - (llmcxr_issuer_keys_timestamp_seconds > 0))", "instance"),),
            "Only where tokens are accepted. Keys are fetched when a token comes.",
            "s",
            quiet=True,
        ),
    ),
)

_OBJECTIVES = Row(
    "Objectives: how fast the budget burns",
    (
        Panel(
            "Errors",
            tuple(
                q(f"(llmcxr:requests_failed:ratio_rate{w} or vector(0)) / 0.005", w)
                for w in ("5m", "1h", "6h", "3d")
            ),
            "1: the budget of 30 days lasts 30 days. Pages from 14.4 in an hour, 6 in six.",
            thresholds=_BURN,
            width=12,
        ),
        Panel(
            "Time",
            tuple(
                q(f"llmcxr:requests_slow:ratio_rate{w} / 0.05", w) for w in ("5m", "1h", "6h", "3d")
            ),
            thresholds=_BURN,
            width=12,
        ),
    ),
)

SERVICE = Dashboard(
    "llmcxr-service",
    "LLM-CXR service",
    "For whoever runs the service: is it well, and if not, where?",
    (_OVERVIEW, _RED, _STAGES, _REFUSALS, _PROCESS, _OBJECTIVES),
)
