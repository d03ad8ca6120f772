"""What the model answers, as numbers: drift shows here before anybody complains.

Labels are tasks, ways to end and the findings of the checkpoint; nothing of an answer itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from llmcxr_models.observations import Observation
from llmcxr_models.prompt import Task
from llmcxr_service.generator import Generation

_TOKENS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_NATS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30)
"""Without the constraint an image's tokens are unlikely: some fifteen nats each."""
_PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1)
_DECIBELS = (10, 15, 18, 20, 22, 24, 26, 28, 30, 35, 40)


class AnswerMeasures:
    """Counts answers and what they are like.

    Args:
        registry: of the application.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "llmcxr_answers",
            "Answers of the language model, by what ended them.",
            ["task", "finish"],
            registry=registry,
        )
        self._tokens = Histogram(
            "llmcxr_answer_tokens",
            "Length of an answer, tokens.",
            ["task"],
            buckets=_TOKENS,
            registry=registry,
        )
        self._nats = Histogram(
            "llmcxr_answer_nats_per_token",
            "How little the model expected its own answer: mean negative log-probability.",
            ["task"],
            buckets=_NATS,
            registry=registry,
        )
        self._texts = Counter(
            "llmcxr_texts",
            "Text answers that went to their reader; of several drafts, the one.",
            ["task"],
            registry=registry,
        )
        self._warned = Counter(
            "llmcxr_warned_answers",
            "Answers that carry at least one warning.",
            ["task"],
            registry=registry,
        )
        self._empty = Counter(
            "llmcxr_empty_answers", "Answers without any text.", ["task"], registry=registry
        )
        self._probability = Histogram(
            "llmcxr_finding_probability",
            "The model's own probability of a finding on a radiograph.",
            ["finding"],
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self._contradicted = Counter(
            "llmcxr_contradicted_reports",
            "Reports whose text says otherwise than the model's own answers about findings.",
            registry=registry,
        )
        self._psnr = Histogram(
            "llmcxr_reconstruction_psnr_db",
            "What the VQ-GAN keeps of a radiograph that came to be reconstructed, decibels.",
            buckets=_DECIBELS,
            registry=registry,
        )
        for task in Task:
            for finish in ("stop", "length"):
                self._answers.labels(task.value, finish)
            self._texts.labels(task.value)
            self._warned.labels(task.value)
            self._empty.labels(task.value)

    def generation(self, task: Task, generation: Generation) -> None:
        """The language model answered."""
        self._answers.labels(task.value, generation.finish_reason).inc()
        self._tokens.labels(task.value).observe(len(generation.token_ids))
        likelihood = generation.mean_log_probability
        if likelihood is not None:
            self._nats.labels(task.value).observe(-likelihood)

    def text(self, task: Task, text: str, warnings: Sequence[str]) -> None:
        """A text goes to its reader."""
        self._texts.labels(task.value).inc()
        if not text:
            self._empty.labels(task.value).inc()
        if warnings:
            self._warned.labels(task.value).inc()

    def findings(self, observations: Sequence[Observation], *, contradicted: bool) -> None:
        """The model was asked about each finding."""
        for observation in observations:
            self._probability.labels(observation.finding.name).observe(observation.probability)
        if contradicted:
            self._contradicted.inc()

    def reconstruction(self, psnr_db: float) -> None:
        """A radiograph was encoded and decoded again."""
        self._psnr.observe(psnr_db)
