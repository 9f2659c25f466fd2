"""What becomes of an answer: read, told as an error, or asked for again."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import httpx
import pydantic

from app.client.calls import Call
from app.problems import Problem
from model.errors import CsrnError

T = TypeVar("T")
LONGEST_PAUSE_S = 30.0


class ServiceProblem(CsrnError):
    """The service answered with a problem; `problem` holds it, `code` says what it is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem
        self.code = problem.code


class ServiceUnreachable(CsrnError):
    """The service gave no answer, or one that is not its own."""


class Retries:
    """How long to pause before a request is sent again, if it is to be."""

    def __init__(self, call: Call[Any], most: int) -> None:
        self._repeatable, self._left, self._count = call.repeatable, most, 0

    @property
    def repeated(self) -> bool:
        return self._count > 0

    def after_answer(self, response: httpx.Response) -> float | None:
        """Seconds to pause; None where the answer stands."""
        # What was refused as too much was not carried out; what failed half-way may have been.
        again = response.status_code == 429 or (response.status_code == 503 and self._repeatable)
        return self._pause_s(response.headers.get("retry-after", "")) if again and self._left else None

    def after_error(self, error: httpx.HTTPError) -> float:
        """Seconds to pause. Raises: ServiceUnreachable where it is not to be sent again."""
        if self._left and (self._repeatable or isinstance(error, httpx.ConnectError)):
            return self._pause_s("")
        raise ServiceUnreachable(f"no answer: {error or type(error).__name__}") from error

    def _pause_s(self, told: str) -> float:
        self._left, self._count = self._left - 1, self._count + 1
        pause_s = float(told) if told.isdecimal() else 0.1 * 2**self._count
        return min(pause_s, LONGEST_PAUSE_S)


def read_answer(call: Call[T], response: httpx.Response, *, repeated: bool) -> T:
    """What a call is answered with; repeated: whether it was sent before, and its answer lost.

    Raises: ServiceProblem; ServiceUnreachable where the answer is not the service's.
    """
    try:
        if response.is_success:
            return call.read(response)
        problem = Problem.model_validate_json(response.content)
        if call.method == "DELETE" and repeated and problem.status == httpx.codes.NOT_FOUND:
            return call.read(response)  # the first time did delete it
        raise ServiceProblem(problem)
    except (pydantic.ValidationError, json.JSONDecodeError):
        raise ServiceUnreachable(
            f"{response.request.url} answered {response.status_code}, but not as CSRN Serve does"
        ) from None


def checked_url(url: str) -> httpx.URL:
    """Raises: ServiceUnreachable for what is no address."""
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ServiceUnreachable(f"{url}: {error}") from None


def auth_headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
