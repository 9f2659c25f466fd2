"""What the client does with a response: return it, raise it as an error, or send the request again."""

from __future__ import annotations

from typing import TypeVar

import httpx
import pydantic

from csrn_client.errors import ServiceProblem, ServiceUnreachable, UnexpectedResponse
from csrn_client.schemas import Problem

M = TypeVar("M", bound=pydantic.BaseModel)
LONGEST_PAUSE_S = 30.0


def parsed(model: type[M], response: httpx.Response) -> M:
    """The body of a response as a model. Raises: UnexpectedResponse."""
    try:
        return model.model_validate_json(response.content)
    except pydantic.ValidationError:
        raise UnexpectedResponse(
            f"{response.request.url} answered {response.status_code}, but not as CSRN Serve does"
        ) from None


def checked(response: httpx.Response, *, deletes_again: bool = False) -> httpx.Response:
    """The response, if the request succeeded.

    Args: deletes_again, whether the request is the repetition of a DELETE. Then "not found" is a success: an
        earlier attempt deleted the object, and only its response was lost.
    Raises: ServiceProblem; UnexpectedResponse.
    """
    if response.is_success:
        return response
    problem = parsed(Problem, response)
    if deletes_again and problem.status == httpx.codes.NOT_FOUND:
        return response
    raise ServiceProblem(problem)


class Retries:
    """Decides whether a request is sent again, and how long to wait before."""

    def __init__(self, limit: int, *, repeatable: bool) -> None:
        """limit: how often; repeatable: whether carrying out the request twice does no harm."""
        self._limit, self._repeatable = limit, repeatable
        self.count = 0

    def pause_after_response(self, response: httpx.Response) -> float | None:
        """Seconds to wait before the request is sent again; None if the response is final."""
        # A service that answers 429 did not carry out the request. One that answers 503 may have begun to.
        busy = response.status_code == 429 or (response.status_code == 503 and self._repeatable)
        return self._next_pause_s(response.headers.get("retry-after", "")) if busy and self._left else None

    def pause_after_error(self, error: httpx.HTTPError) -> float:
        """Seconds to wait before the request is sent again. Raises: ServiceUnreachable if it is not."""
        if self._left and (self._repeatable or isinstance(error, httpx.ConnectError)):
            return self._next_pause_s("")
        raise ServiceUnreachable(f"no answer: {error or type(error).__name__}") from error

    @property
    def _left(self) -> bool:
        return self.count < self._limit

    def _next_pause_s(self, retry_after: str) -> float:
        self.count += 1
        pause_s = float(retry_after) if retry_after.isdecimal() else 0.1 * 2**self.count
        return min(pause_s, LONGEST_PAUSE_S)
