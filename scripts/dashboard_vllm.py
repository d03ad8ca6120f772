"""The dashboard of vLLM: its own metrics, and what the gateway sees of it."""

from __future__ import annotations

from dashboard_json import Dashboard, Panel, Row
from dashboard_queries import count, q, quantiles, rate, share

_LOAD = Row(
    "Load",
    (
        Panel(
            "Requests",
            (
                q("sum by (instance) (vllm:num_requests_running)", "running {{instance}}"),
                q("sum by (instance) (vllm:num_requests_waiting)", "waiting {{instance}}"),
            ),
        ),
        Panel(
            "Waiting, by reason",
            (q("sum by (reason) (vllm:num_requests_waiting_by_reason)", "{{reason}}"),),
        ),
        Panel(
            "Key-value cache used",
            (q("vllm:kv_cache_usage_perc", "{{instance}}"),),
            unit="percentunit",
        ),
        Panel(
            "Tokens per second",
            (
                q("sum(rate(vllm:prompt_tokens_total[5m]))", "prompt"),
                q("sum(rate(vllm:prompt_tokens_cached_total[5m]))", "prompt, from the cache"),
                q("sum(rate(vllm:generation_tokens_total[5m]))", "generated"),
            ),
        ),
        Panel(
            "Prompt tokens found in the cache",
            (
                share(
                    "vllm:prefix_cache_hits_total",
                    "vllm:prefix_cache_queries_total",
                    legend="hit rate",
                    window="5m",
                ),
            ),
            "Frames and images that several questions share.",
            "percentunit",
        ),
        Panel(
            "Ended, by reason",
            (rate("vllm:request_success_total", "finished_reason"),),
            unit="reqps",
        ),
    ),
)

_TIMES = Row(
    "Times",
    (
        quantiles("vllm:e2e_request_latency_seconds", "A whole request"),
        quantiles("vllm:time_to_first_token_seconds", "To the first token"),
        quantiles("vllm:inter_token_latency_seconds", "From token to token"),
        quantiles("vllm:request_queue_time_seconds", "In the queue"),
        quantiles("vllm:request_prefill_time_seconds", "Reading the prompt"),
        quantiles("vllm:request_decode_time_seconds", "Writing the answer"),
    ),
)

_TROUBLE = Row(
    "Trouble",
    (
        Panel(
            "Sequences put back, an hour",
            (count("vllm:num_preemptions_total", "instance"),),
            "The key-value cache was too small for all.",
        ),
        Panel("Refused by vLLM, an hour", (count("vllm:admission_rejections_total", "instance"),)),
        Panel(
            "Memory of the server's process",
            (q('process_resident_memory_bytes{job="vllm"}', "{{instance}}"),),
            "The API server; the engine is a process of its own.",
            "bytes",
        ),
    ),
)

_GATEWAY = Row(
    "As the gateway sees it",
    (
        Panel(
            "Answers as it should",
            (q("llmcxr_vllm_replica_up", "{{instance}} → {{replica}}"),),
            "By gateway and place in LLMCXR_VLLM_URL.",
        ),
        Panel(
            "Calls by outcome",
            (rate("llmcxr_vllm_calls_total", "replica", "outcome"),),
            unit="reqps",
        ),
        Panel(
            "Calls under way",
            (q("sum by (replica) (llmcxr_vllm_running_calls)", "{{replica}}"),),
        ),
        Panel(
            "Left alone",
            (q("llmcxr_vllm_circuit_open", "{{instance}} → {{replica}}"),),
            "1: its calls failed five times in a row, and single ones try it.",
        ),
        Panel("Calls made again, an hour", (count("llmcxr_vllm_retries_total"),)),
    ),
)

VLLM = Dashboard(
    "llmcxr-vllm",
    "LLM-CXR language model server",
    "For whoever looks after vLLM: how full is it, how fast, what goes wrong?",
    (_LOAD, _TIMES, _TROUBLE, _GATEWAY),
)
