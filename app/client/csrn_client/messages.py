"""HTTP messages: the parts of a request, and what its response means."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx
import pydantic

from csrn_client.errors import (
    InvalidImage,
    InvalidURL,
    InvalidValue,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedResponse,
)
from csrn_client.images import Image, Upload, each_image
from csrn_client.retries import described, shown
from csrn_client.schemas import Problem, Session

M = TypeVar("M", bound=pydantic.BaseModel)
Examples = Mapping[str, Image | Iterable[Image]] | Iterable[tuple[str, Image]] | tuple[str, Image]
"""Labelled images: pairs of a label and an image, one such pair, or the images of each label"""
CONNECT_LIMIT_S = 10.0


def service_url(url: str) -> httpx.URL:
    """Parse the address of the service. Raises: InvalidURL unless it is an http or https URL with a host."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidURL(f"{url}: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidURL(f"{url}: the address of a service begins with http:// or https://")
    return parsed


def timeouts(timeout_s: float) -> httpx.Timeout:
    """How long to wait for each step of a request. A connection is made at once or not at all."""
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_LIMIT_S))


def session_path(session: Session | str, *rest: str) -> str:
    """The path of a session, or of something in it: `/v1/sessions/ID/classes/LABEL`. Raises: InvalidValue."""
    session_id = session if isinstance(session, str) else session.id
    return "/".join(["/v1/sessions", *map(_path_part, (session_id, *rest))])


def _path_part(name: str) -> str:
    # HTTP clients resolve . and .. before they send an address: the request would concern something else.
    if name in ("", ".", "..") or "/" in name or not _is_unicode(name):
        raise InvalidValue(f"{name!r} cannot be part of an address: it is no id and no label")
    return urllib.parse.quote(name, safe="")


def _is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogates, which UTF-8 cannot hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


@contextlib.contextmanager
def encoding() -> Iterator[None]:
    """Turns the errors of building a request into the client's own. Raises: InvalidValue."""
    try:
        yield
    except (TypeError, ValueError, httpx.InvalidURL) as error:
        raise InvalidValue(f"a value cannot be sent: {error}") from error


def labelled(examples: Examples) -> tuple[list[str], list[Image]]:
    """The labels and the images of labelled images, in the same order. Raises: InvalidImage."""
    pairs: Iterable[Any]
    if isinstance(examples, Mapping):
        pairs = [(label, image) for label, images in examples.items() for image in each_image(images)]
    elif isinstance(examples, tuple) and len(examples) == 2 and isinstance(examples[0], str):
        pairs = [examples]
    else:
        pairs = [*examples]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise InvalidImage("labelled images are pairs: (label, image)")
    return [label for label, _ in pairs], [image for _, image in pairs]


def file_parts(field: str, uploads: Sequence[Upload]) -> list[tuple[str, tuple[str, bytes]]]:
    """Images as parts of a multipart form."""
    return [(field, (upload.name, upload.content)) for upload in uploads]


def given(**options: object) -> dict[str, Any]:
    """The options that are not None, as fields of a form or a query."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in options.items()
        if value is not None
    }


def changes(**members: object) -> dict[str, Any]:
    """The members of a change that the user gave, which may be None."""
    return {name: value for name, value in members.items() if value is not ...}


def checked(outcome: httpx.Response | httpx.HTTPError, *, repeated: bool) -> httpx.Response:
    """The response, if the request succeeded.

    A repeated DELETE also succeeds if nothing is found: an earlier attempt deleted the object, and only the
    response to it was lost.

    Raises: ServiceProblem; ServiceUnreachable; UnexpectedResponse.
    """
    if isinstance(outcome, httpx.HTTPError):
        raise ServiceUnreachable(described(outcome)) from outcome
    if outcome.is_success:
        return outcome
    problem = parsed(Problem, outcome)
    if repeated and outcome.request.method == "DELETE" and problem.status == httpx.codes.NOT_FOUND:
        return outcome
    raise ServiceProblem(problem)


def parsed(model: type[M], response: httpx.Response, client: object = None) -> M:
    """The body of a response as a model. Raises: UnexpectedResponse.

    Args: client, the client that the sessions in it belong to.
    """
    try:
        return model.model_validate_json(response.content, context={"client": client})
    except pydantic.ValidationError:
        raise UnexpectedResponse(
            f"{shown(response.request.url)} answered {response.status_code}, but not as CSRN Serve does"
        ) from None
