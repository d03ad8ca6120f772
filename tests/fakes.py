"""A fake vLLM: an ASGI app that speaks the part of vLLM's protocol that the gateway uses.

It keeps the rules of the real server (allowed ids, logit bias, min and max tokens, stop ids,
seeds, 400 for what is out of vocabulary, its error bodies) and can be told to break them.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from llmcxr_models.guidance_request import read_request


class Fault(StrEnum):
    """One way to misbehave, for one completion."""

    HANG = "hang"
    SERVER_ERROR = "server-error"
    REFUSE = "refuse"
    BUSY = "busy"
    TOO_FEW = "too-few"
    TOO_MANY = "too-many"
    OUT_OF_RANGE = "out-of-range"
    NEGATIVE = "negative"
    BAD_JSON = "bad-json"
    NOT_JSON_OBJECT = "no-object"
    NO_TOKEN_IDS = "no-token-ids"
    WRONG_TYPE = "wrong-type"
    ABORTED = "aborted"
    NO_CHOICES = "no-choices"
    ONE_MISSING = "one-missing"
    OTHER_ORDER = "other-order"
    OTHER_MODEL = "other-model"
    OTHER_PROMPT = "other-prompt"
    DIE = "die"
    BREAK_OFF = "break-off"
    ERROR_EVENT = "error-event"


@dataclass
class FakeVllm:
    """State of the fake server.

    Attributes:
        served_name: what `/v1/models` lists.
        vocabulary_size: ids from here on are refused.
        max_model_len: longest sequence.
        api_key: asked for, if set.
        answer: text answers, as token ids; random ones where None.
        answers: the same for single seeds.
        gives_logprobs: of the tokens that were drawn.
        guides: whether it runs with the processor that guides drawing; else what asks for
            guidance is taken and ignored.
        delay_seconds: of each completion, before it begins.
        token_seconds: between the parts of a stream.
        tokens_at_once: in one part of a stream.
        hide_logprobs: of the tokens that were allowed.
        up: else every connection is answered 503.
        faults: taken one by one, one for each completion; None: this one is answered well.
        requests: the bodies of all completions.
        headers: theirs.
        cancelled: how many completions were given up by the caller.
    """

    served_name: str
    vocabulary_size: int
    max_model_len: int = 256
    api_key: str | None = None
    answer: list[int] | None = None
    answers: dict[int, list[int]] = field(default_factory=dict)
    gives_logprobs: bool = True
    guides: bool = True
    delay_seconds: float = 0.0
    token_seconds: float = 0.0
    tokens_at_once: int = 1
    hide_logprobs: bool = False
    up: bool = True
    faults: deque[Fault | None] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: int = 0
    running: int = 0
    most_running: int = 0

    def app(self) -> Starlette:
        """The ASGI app."""
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/metrics", self._metrics),
                Route("/v1/models", self._models),
                Route("/v1/completions", self._completions, methods=["POST"]),
            ]
        )

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200 if self.up else 503)

    async def _metrics(self, _: Request) -> Response:
        labels = f'{{engine="0",model_name="{self.served_name}"}}'
        return PlainTextResponse(f"vllm:num_requests_running{labels} {float(self.running)}\n")

    async def _models(self, request: Request) -> Response:
        if not self.up:
            return Response(status_code=503)
        if not self._authorised(request):
            return JSONResponse({"error": "Unauthorized"}, status_code=401)
        card = {"id": self.served_name, "object": "model", "max_model_len": self.max_model_len}
        return JSONResponse({"object": "list", "data": [card]})

    async def _completions(self, request: Request) -> Response:
        if not self._authorised(request):
            return JSONResponse({"error": "Unauthorized"}, status_code=401)
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        fault = self.faults.popleft() if self.faults else None
        await self._take_time(request, 3600.0 if fault is Fault.HANG else self.delay_seconds)
        # One prompt, or several with the same constraint.
        several = [body | {"prompt": p} for p in body["prompt"] if isinstance(p, list)] or [body]
        complaint = next(filter(None, map(self._complaint, several)), None)
        if complaint is not None:
            return _error(400, complaint)
        broken = self._broken(fault, body)
        if broken is not None:
            return broken
        completion = _together([self._completion(each, fault) for each in several], fault)
        if body.get("stream"):
            stream = self._stream(completion, fault)
            return StreamingResponse(stream, media_type="text/event-stream")
        return JSONResponse(completion)

    async def _stream(self, completion: dict[str, Any], fault: Fault | None) -> AsyncIterator[str]:
        """The completion token by token, as the real server sends it."""
        head = {name: completion[name] for name in ("id", "object", "created", "model")}
        usage, choices = completion["usage"], completion["choices"]
        self.running += 1
        try:
            for choice in choices:
                for part in _pieces(choice, self.tokens_at_once):
                    await asyncio.sleep(self.token_seconds)
                    yield _data({**head, "choices": [part]})
                    if fault is Fault.BREAK_OFF:
                        raise ConnectionAbortedError("the fake server dies here")
                    if fault is Fault.ERROR_EVENT:
                        yield _data({"error": {"message": "failed", "code": 500}})
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        yield _data({**head, "choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    async def _take_time(self, request: Request, seconds: float) -> None:
        """Sleep, but stop as soon as the caller goes away, as the real server does."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        watcher = asyncio.ensure_future(request.receive())
        try:
            gone, _ = await asyncio.wait({watcher}, timeout=seconds)
            self.cancelled += len(gone)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            watcher.cancel()
            self.running -= 1

    def _authorised(self, request: Request) -> bool:
        given = request.headers.get("authorization")
        return self.api_key is None or given == f"Bearer {self.api_key}"

    def _complaint(self, body: dict[str, Any]) -> str | None:
        prompt = body["prompt"]
        ids = [*prompt, *body.get("allowed_token_ids", ()), *body["stop_token_ids"]]
        ids += [int(i) for i in body.get("logit_bias", {})]
        if not all(0 <= i < self.vocabulary_size for i in ids):
            return "out-of-vocab token id"
        if len(body.get("logit_bias", {})) > 1024 or len(body.get("allowed_token_ids", ())) > 1024:
            return "too many"
        if body["min_tokens"] > body["max_tokens"]:
            return "min_tokens must be less than or equal to max_tokens"
        if len(prompt) + body["max_tokens"] > self.max_model_len:
            return "longer than the maximum model length"
        if body["model"] != self.served_name:
            return "The model does not exist."
        if self.guides:
            try:
                read_request(body.get("vllm_xargs"))
            except ValueError as error:
                return str(error)
        return None

    def _broken(self, fault: Fault | None, body: dict[str, Any]) -> Response | None:
        match fault:
            case Fault.SERVER_ERROR:
                return _error(500, "EngineCore encountered an issue")
            case Fault.REFUSE:
                return _error(400, f"refused: {body['prompt']}")
            case Fault.BUSY:
                return _error(503, "busy")
            case Fault.BAD_JSON:
                return Response(b'{"choices": [', media_type="application/json")
            case Fault.NOT_JSON_OBJECT:
                return Response(b"[1, 2]", media_type="application/json")
            case Fault.DIE:
                return StreamingResponse(_half(), headers={"Content-Length": "1000"})
        return None

    def _completion(self, body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        token_ids, finish_reason = self._draw(body)
        prompt_tokens = len(body["prompt"])
        match fault:
            case Fault.TOO_FEW:
                token_ids = token_ids[: body["min_tokens"] - 1]
            case Fault.TOO_MANY:
                token_ids = token_ids + [token_ids[-1]] * body["max_tokens"]
            case Fault.OUT_OF_RANGE:
                token_ids = [*token_ids[:-1], self.vocabulary_size + 7]
            case Fault.NEGATIVE:
                token_ids = [*token_ids[:-1], -1]
            case Fault.ABORTED:
                finish_reason = "abort"
            case Fault.OTHER_PROMPT:
                prompt_tokens += 1
        choice: dict[str, Any] = {
            "index": 0,
            "text": "",
            "logprobs": None,
            "finish_reason": finish_reason,
            "stop_reason": None,
            "prompt_logprobs": None,
        }
        if body.get("logprobs") is not None and self.gives_logprobs:
            choice["logprobs"] = {
                "token_logprobs": [-((i % 7) + 1) / 8 for i in token_ids],
                "top_logprobs": [self.logprobs_of(body)],
            }
        if body.get("return_token_ids"):
            choice |= {"token_ids": token_ids, "prompt_token_ids": body["prompt"]}
        if fault is Fault.NO_TOKEN_IDS:
            choice["token_ids"] = None
        if fault is Fault.WRONG_TYPE:
            choice["token_ids"] = [str(i) for i in token_ids]
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(token_ids),
            "total_tokens": prompt_tokens + len(token_ids),
        }
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "other" if fault is Fault.OTHER_MODEL else self.served_name,
            "choices": [] if fault is Fault.NO_CHOICES else [choice],
            "usage": usage,
        }

    def _draw(self, body: dict[str, Any]) -> tuple[list[int], str]:
        """Tokens as a function of prompt, seed and sampling, within the constraints."""
        low, high, stops = body["min_tokens"], body["max_tokens"], set(body["stop_token_ids"])
        answer = self.answers.get(body["seed"], self.answer)
        if answer is not None and "allowed_token_ids" not in body:
            token_ids = answer[:high]
            return token_ids, "stop" if token_ids[-1] in stops else "length"
        never = {int(i) for i, bias in body.get("logit_bias", {}).items() if bias <= -100}
        allowed = body.get("allowed_token_ids") or range(self.vocabulary_size)
        choices = [i for i in allowed if i not in never and i not in stops]
        greedy = body["temperature"] == 0
        seed = "greedy" if greedy else (body["seed"], body["temperature"], body["top_p"])
        lean = body.get("vllm_xargs") if self.guides else None
        dice = random.Random(repr((seed, body["prompt"], *([lean] if lean else []))))
        length = low if low == high else dice.randint(low, min(high, 12))
        token_ids = [dice.choice(choices) for _ in range(length)]
        if low < high and length < high and stops:
            return [*token_ids, min(stops)], "stop"
        return token_ids, "length"

    def logprobs_of(self, body: dict[str, Any]) -> dict[str, float]:
        """Those of the first token; a function of the prompt, as a model's are."""
        dice = random.Random(repr(("logprobs", body["prompt"])))
        allowed = body.get("allowed_token_ids") or range(self.vocabulary_size)
        shown = list(allowed)[: body["logprobs"]]
        if self.hide_logprobs:
            return {"token_id:0": -1.0}
        return {f"token_id:{i}": -5.0 * dice.random() for i in shown}


def _together(completions: list[dict[str, Any]], fault: Fault | None) -> dict[str, Any]:
    """One completion with a choice for each prompt."""
    whole, *_ = completions
    choices = [choice for each in completions for choice in each["choices"]]
    whole["choices"] = [choice | {"index": number} for number, choice in enumerate(choices)]
    whole["usage"] = {n: sum(each["usage"][n] for each in completions) for n in whole["usage"]}
    if fault is Fault.OTHER_ORDER:
        whole["choices"].reverse()
    if fault is Fault.ONE_MISSING:
        whole["choices"].pop()
    return whole


async def _half() -> Any:
    yield b'{"id": "cmpl-1", '
    raise ConnectionAbortedError("the fake server dies here")


def _pieces(choice: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """One choice in parts; only the last has a reason why it ended."""
    token_ids, logprobs = choice.get("token_ids"), choice["logprobs"] or {}
    if token_ids is None:
        yield choice
        return
    for start in range(0, len(token_ids), size):
        end = min(start + size, len(token_ids))
        yield {
            "index": 0,
            "text": "\u2028",
            "token_ids": token_ids[start:end],
            "logprobs": {"token_logprobs": logprobs.get("token_logprobs", [])[start:end]},
            "finish_reason": choice["finish_reason"] if end == len(token_ids) else None,
        }


def _data(part: dict[str, Any]) -> str:
    return f"data: {json.dumps(part, ensure_ascii=False)}\n\n"


def _error(status: int, message: str) -> JSONResponse:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
    return JSONResponse({"error": error}, status_code=status)
