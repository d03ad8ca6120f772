"""The dashboard of hospital interfaces: what comes in, what goes out, what waits, what is kept."""

from __future__ import annotations

from dashboard_json import Dashboard, Panel, Row
from dashboard_queries import count, happened, number, q, quantile, rate, worst

_OVERVIEW = Row(
    "Now",
    (
        number(
            "Given up",
            'sum(max by (target) (llmcxr_deliveries{state="dead"}))',
            thresholds=((None, "green"), (1.0, "red")),
        ),
        number(
            "Oldest that waits",
            "max(llmcxr_delivery_oldest_seconds)",
            "s",
            thresholds=((None, "green"), (600.0, "orange"), (1800.0, "red")),
        ),
        number(
            "Destinations down",
            "sum(max by (target) (llmcxr_delivery_circuit_open))",
            thresholds=((None, "green"), (1.0, "red")),
        ),
        number(
            "Instances received, 1 h",
            "sum(increase(llmcxr_received_instances_total[1h]))",
        ),
        number("Reports drafted, 1 h", "sum(increase(llmcxr_reports_total[1h]))"),
        number(
            "Audit events lost, 1 h",
            "sum(increase(llmcxr_audit_failures_total[1h]))",
            thresholds=((None, "green"), (1.0, "red")),
        ),
    ),
)

_IN = Row(
    "In",
    (
        Panel(
            "Instances by door and verdict, an hour",
            (happened("llmcxr_received_instances_total", "origin", "verdict"),),
            "stow: STOW-RS; dimse: C-STORE. A `dicom-listen` of its own is not in it.",
            stacked=True,
        ),
        Panel("DIMSE associations, an hour", (count("llmcxr_dicom_associations_total", "event"),)),
        Panel(
            "Reports drafted by door, an hour",
            (count("llmcxr_reports_total", "door"),),
            "http: a request; job: an item of a batch; queue: a received instance.",
            stacked=True,
        ),
    ),
)

_OUT = Row(
    "Out",
    (
        Panel(
            "In the queue",
            (worst("llmcxr_deliveries", "target", "state"),),
            "draft: reports to be made; the others are destinations.",
        ),
        Panel("Age of the oldest", (worst("llmcxr_delivery_oldest_seconds", "target"),), unit="s"),
        Panel(
            "Attempts by outcome", (rate("llmcxr_delivery_attempts_total", "target", "outcome"),)
        ),
        Panel(
            "Time of a send, 95th percentile",
            (quantile(0.95, "llmcxr_delivery_seconds", "target"),),
            unit="s",
        ),
        Panel(
            "Failures by reason, an hour",
            (count("llmcxr_delivery_failures_total", "target", "reason"),),
            quiet=True,
        ),
        Panel("Counts as down", (worst("llmcxr_delivery_circuit_open", "target"),)),
        Panel(
            "Age of these figures",
            (q("time() - (llmcxr_deliveries_timestamp_seconds > 0)", "{{instance}}"),),
            "More than some seconds: the queue's database cannot be read.",
            "s",
        ),
    ),
)

_JOBS = Row(
    "Jobs",
    (
        Panel(
            "Not done",
            (
                q("max(llmcxr_jobs_running)", "jobs"),
                q("max(llmcxr_job_items_waiting)", "items"),
            ),
        ),
        Panel("Age of the oldest", (worst("llmcxr_job_oldest_seconds"),), unit="s"),
        Panel("Items by outcome, an hour", (count("llmcxr_job_items_total", "task", "outcome"),)),
        Panel("Webhooks, an hour", (count("llmcxr_job_webhooks_total", "outcome"),)),
    ),
)

_KEPT = Row(
    "Kept, and let in",
    (
        Panel("Free disk", (q("llmcxr_disk_free_bytes", "{{place}} {{instance}}"),), unit="bytes"),
        Panel("Audit failures, an hour", (count("llmcxr_audit_failures_total", "step"),)),
        Panel(
            "Store of rates did not answer, an hour", (count("llmcxr_rate_store_failures_total"),)
        ),
        Panel("Issuer's keys fetched, an hour", (count("llmcxr_issuer_fetches_total", "outcome"),)),
    ),
)

HOSPITAL = Dashboard(
    "llmcxr-hospital",
    "LLM-CXR hospital interfaces",
    "For PACS and RIS administrators: does everything that came in go out?",
    (_OVERVIEW, _IN, _OUT, _JOBS, _KEPT),
)
