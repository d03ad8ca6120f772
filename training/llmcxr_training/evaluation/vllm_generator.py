"""vLLM in this process as a `Generator`: every question at once, answers as they are finished."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.guidance_request import LOGITS_PROCESSOR
from llmcxr_models.vllm_distribution import answer_for_vllm
from llmcxr_training.data import DataError
from llmcxr_training.evaluation.answers import LogProbabilities, Question, TokenIds
from llmcxr_training.evaluation.settings import Engine

GIB = 1024**3
GPU_MEMORY_SHARE = 0.8
"""vLLM's share of a GPU; the rest is for VQ-GAN and judge beside it."""

LEAST_BATCHED_TOKENS = 4096
"""Tokens in one step, at least one whole prompt."""

_NEVER = -100.0
"""The lowest logit bias that vLLM takes; e^-100 is no probability in float32."""

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    # One process: no second interpreter, and no second copy of the weights' loader.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
_UNLESS_SET = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    # On few cores vLLM's own binding keeps one for the scheduler and leaves one to compute.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


class VllmGenerator:
    """The language model of a checkpoint.

    Args:
        checkpoint: its `llm/` is loaded.
        engine: how vLLM runs.
        dtype: of weights and arithmetic.

    Raises:
        DataError: vLLM is not installed.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine, dtype: torch.dtype) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise DataError("answers need vLLM, and it is not installed")
        os.environ.update(_ENVIRONMENT)
        for name, value in _UNLESS_SET.items():
            os.environ.setdefault(name, value)
        answer_for_vllm()
        from vllm import LLM

        self._llm: Any = LLM(
            str(checkpoint.llm_path.resolve()),
            dtype="bfloat16" if dtype is torch.bfloat16 else "float32",
            max_model_len=checkpoint.manifest.max_model_len,
            max_num_seqs=engine.max_num_seqs,
            enforce_eager=engine.eager,
            enable_prefix_caching=True,
            # Whole prompts only: for a part of one, vLLM turns a seeded generator back, and a
            # CPU's generator cannot be turned back ("CPU Generator does not use offset").
            enable_chunked_prefill=False,
            max_num_batched_tokens=max(LEAST_BATCHED_TOKENS, checkpoint.manifest.max_model_len),
            # The prompt and its constraint say everything.
            generation_config="vllm",
            disable_log_stats=True,
            logits_processors=[LOGITS_PROCESSOR] if checkpoint.manifest.guidance else None,
            **_memory(engine),
        )

    def generate(self, questions: Sequence[Question]) -> Iterator[tuple[int, TokenIds]]:
        """See `Generator`."""
        for number, answer in self._finished(questions, [_parameters(q) for q in questions]):
            yield number, tuple(answer.token_ids)

    def log_probabilities(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[int, LogProbabilities]]:
        """See `Generator`; before the constraint, as the service reads them."""
        for number, answer in self._finished(questions, [_looking(q) for q in questions]):
            first = answer.logprobs[0]
            allowed = questions[number].prompt.constraint.allowed_token_ids or ()
            yield number, tuple(first[token_id].logprob for token_id in allowed)

    def _finished(
        self, questions: Sequence[Question], parameters: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Number and vLLM's output of each question, as they are finished."""
        from vllm import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=list(q.prompt.token_ids)) for q in questions]
        ids = self._llm.enqueue(prompts, list(parameters), use_tqdm=False)
        # `enqueue` returns the engine's own ids, `7-1a2b3c4d`; answers come under the `7`.
        numbers = {id_.partition("-")[0]: number for number, id_ in enumerate(ids)}
        engine = self._llm.llm_engine
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    yield numbers[output.request_id], output.outputs[0]


def _memory(engine: Engine) -> dict[str, Any]:
    if torch.cuda.is_available():
        return {"gpu_memory_utilization": GPU_MEMORY_SHARE}
    return {"kv_cache_memory_bytes": int(engine.kv_cache_gib * GIB)}


def _looking(question: Question) -> Any:  # noqa: ANN401  vLLM is imported late
    """One step, and the log-probabilities of exactly the allowed tokens."""
    parameters = _parameters(question)
    parameters.logprob_token_ids = list(question.prompt.constraint.allowed_token_ids or ())
    return parameters


def _parameters(question: Question) -> Any:  # noqa: ANN401  vLLM is imported late
    from vllm import SamplingParams

    constraint = question.prompt.constraint
    allowed = constraint.allowed_token_ids
    return SamplingParams(
        temperature=question.temperature,
        top_p=question.top_p,
        seed=question.seed,
        min_tokens=constraint.min_tokens,
        max_tokens=constraint.max_tokens,
        stop_token_ids=list(constraint.stop_token_ids),
        allowed_token_ids=None if allowed is None else list(allowed),
        logit_bias=dict.fromkeys(constraint.forbidden_token_ids, _NEVER) or None,
        detokenize=False,
        extra_args=question.guidance.to_request() if question.guidance else None,
    )
