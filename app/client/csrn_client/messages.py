"""HTTP messages: the parts of a request, and what its response means."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import httpx
import pydantic

from csrn_client.errors import InvalidURL, ServiceProblem, ServiceUnreachable, UnexpectedResponse
from csrn_client.schemas import Problem

M = TypeVar("M", bound=pydantic.BaseModel)
Image = bytes | Path
"""The content of an image file, or the path of the file."""
LONGEST_PAUSE_S = 30.0


def service_url(url: str) -> httpx.URL:
    """Parse the address of the service. Raises: InvalidURL unless it is an http or https URL with a host."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidURL(f"{url}: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidURL(f"{url}: the address of a service begins with http:// or https://")
    return parsed


def session_path(session_id: str, *rest: str) -> str:
    """The path of a session, or of something in it: `/v1/sessions/ID/classes/LABEL`."""
    return "/".join(["/v1/sessions", *(urllib.parse.quote(part, safe="") for part in (session_id, *rest))])


def file_bytes(file: Image) -> bytes:
    """The content of a file. Raises: OSError."""
    return file if isinstance(file, bytes) else file.read_bytes()


def path_text(path: Path) -> str:
    """A path as text that can be sent and printed: bytes that are not UTF-8 are shown as \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")


def file_parts(field: str, images: Sequence[Image]) -> list[tuple[str, tuple[str, bytes]]]:
    """Images as parts of a multipart form, named after their files or numbered. Raises: OSError."""
    return [
        (field, (path_text(Path(image.name)) if isinstance(image, Path) else str(index), file_bytes(image)))
        for index, image in enumerate(images)
    ]


def classify_options(unknown_below: float | None, all_faces: bool) -> dict[str, str]:
    """The form fields that say how to classify."""
    options = {"all_faces": str(all_faces).lower()}
    return options if unknown_below is None else {**options, "unknown_below": str(unknown_below)}


def pause_before_retry(outcome: httpx.Response | httpx.HTTPError, retries: int) -> float | None:
    """Seconds to wait before the request is sent again. None if another attempt cannot help or can do harm.

    Args: retries, how often the request was sent again already.
    """
    request = outcome.request
    # Any other POST adds something, and it must not be added twice.
    repeatable = request.method != "POST" or request.url.path.endswith("/classify")
    retry_after = ""
    if isinstance(outcome, httpx.HTTPError):
        useful = repeatable or isinstance(outcome, httpx.ConnectError)
    else:
        # A service that answers 429 did not carry out the request. One that answers 503 may have begun to.
        useful = outcome.status_code == 429 or (outcome.status_code == 503 and repeatable)
        retry_after = outcome.headers.get("retry-after", "")
    pause_s = float(retry_after) if retry_after.isdecimal() else 0.2 * 2**retries
    return min(pause_s, LONGEST_PAUSE_S) if useful else None


def checked(outcome: httpx.Response | httpx.HTTPError, *, repeated: bool) -> httpx.Response:
    """The response, if the request succeeded.

    A repeated DELETE also succeeds if nothing is found: an earlier attempt deleted the object, and only the
    response to it was lost.

    Raises: ServiceProblem; ServiceUnreachable; UnexpectedResponse.
    """
    if isinstance(outcome, httpx.HTTPError):
        raise ServiceUnreachable(f"no answer: {outcome or type(outcome).__name__}") from outcome
    if outcome.is_success:
        return outcome
    problem = parsed(Problem, outcome)
    if repeated and outcome.request.method == "DELETE" and problem.status == httpx.codes.NOT_FOUND:
        return outcome
    raise ServiceProblem(problem)


def parsed(model: type[M], response: httpx.Response) -> M:
    """The body of a response as a model. Raises: UnexpectedResponse."""
    try:
        return model.model_validate_json(response.content)
    except pydantic.ValidationError:
        raise UnexpectedResponse(
            f"{response.request.url} answered {response.status_code}, but not as CSRN Serve does"
        ) from None
