"""Problem documents -> errors of the client.

ServiceError
|-- ServiceAway         nothing answers, or the connection was lost
|-- UnreadableAnswer    it answers, but not as this version of the client knows it
`-- ProblemError        it said what is wrong
    |-- NotAllowed          401, 403
    |-- InvalidCall         any other 4xx: the request must be another one
    |-- TryLater            429, 503: the same request may do later
    `-- ServiceFailed       any other 5xx
"""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from llmcxr_service.schemas import Problem


class ServiceError(Exception):
    """The service refused, failed or is not there; the message is for a person."""


class ServiceAway(ServiceError):
    """Nothing answers, or the connection was lost."""


class UnreadableAnswer(ServiceError):
    """The answer is not of the service, or of another version of it."""


class ProblemError(ServiceError):
    """The service said what is wrong.

    Attributes:
        problem: its words.
        retry_after_seconds: when it is worth trying again, if it said so.
    """

    def __init__(self, problem: Problem, retry_after_seconds: int | None = None) -> None:
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        words = [f"{problem.title} ({problem.status})."]
        words += [problem.detail] if problem.detail else []
        words += [f"{error.field}: {error.problem}" for error in problem.errors or []]
        if retry_after_seconds is not None:
            words.append(f"Try again in {retry_after_seconds} seconds.")
        super().__init__(" ".join(words))


class NotAllowed(ProblemError):
    """The key is missing, wrong, or not for this."""


class InvalidCall(ProblemError):
    """The request cannot be answered as it is."""


class TryLater(ProblemError):
    """Busy, starting, or the language model is away."""


class ServiceFailed(ProblemError):
    """The service or the language model failed."""


def problem_error(problem: Problem, retry_after_seconds: int | None) -> ProblemError:
    """The error for a problem document."""
    if problem.status in {401, 403}:
        return NotAllowed(problem, retry_after_seconds)
    if problem.status in {429, 503}:
        return TryLater(problem, retry_after_seconds)
    if problem.status < 500:
        return InvalidCall(problem, retry_after_seconds)
    return ServiceFailed(problem, retry_after_seconds)


def response_error(response: httpx.Response) -> ServiceError:
    """The error for a response, read whole, that is no success."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return UnreadableAnswer(f"The service answered with status {response.status_code}.")
    retry_after = response.headers.get("Retry-After", "")
    return problem_error(problem, int(retry_after) if retry_after.isdecimal() else None)


def transport_error(url: str, error: httpx.HTTPError) -> ServiceAway:
    """The error for a call that brought no answer."""
    if isinstance(error, httpx.ConnectError):
        return ServiceAway(f"Nothing answers at {url}. Start the service with `llmcxr serve`.")
    return ServiceAway(f"{url} did not answer ({type(error).__name__}).")
