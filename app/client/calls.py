"""Every call of the HTTP API: its request, and how its answer is read."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx

from app.schemas import Added, Class, Model, Quality, Results, Session, SessionPage

T = TypeVar("T")
Image = bytes | Path
"""An encoded image, or the file that holds it"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """A request, and what its answer is read as."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: dict[str, Any] = dataclasses.field(default_factory=dict)
    repeatable: bool = True
    """Whether it may be sent again where it is not known if it was carried out"""


def create_session(
    name: str | None = None, ttl_s: float | None = None, metadata: Mapping[str, Any] | None = None
) -> Call[Session]:
    body = {"name": name, "ttl_s": ttl_s, "metadata": dict(metadata or {})}
    return Call(
        method="POST",
        path="/v1/sessions",
        content={"json": body},
        read=_as(Session),
        repeatable=False,
    )


def list_sessions(limit: int, cursor: str | None) -> Call[SessionPage]:
    query = {"limit": limit, **({} if cursor is None else {"cursor": cursor})}
    return Call(method="GET", path="/v1/sessions", content={"params": query}, read=_as(SessionPage))


def get_session(session_id: str) -> Call[Session]:
    return Call(method="GET", path=_path(session_id), read=_as(Session))


def delete_session(session_id: str) -> Call[None]:
    return Call(method="DELETE", path=_path(session_id), read=_nothing)


def add_support(session_id: str, examples: Sequence[tuple[str, Image]]) -> Call[Added]:
    return Call(
        method="POST",
        path=_path(session_id, "support"),
        content={
            "files": _files("images", [image for _, image in examples]),
            "data": {"labels": [label for label, _ in examples]},
        },
        read=_as(Added),
        repeatable=False,
    )


def add_examples(
    session_id: str, label: str, images: Sequence[Image], example_ids: Sequence[str] | None
) -> Call[Added]:
    return Call(
        method="POST",
        path=_path(session_id, "classes", label, "examples"),
        content={
            "files": _files("images", images),
            "data": {} if example_ids is None else {"example_ids": [*example_ids]},
        },
        read=_as(Added),
        repeatable=False,
    )


def replace_class(session_id: str, label: str, images: Sequence[Image]) -> Call[Added]:
    return Call(
        method="PUT",
        path=_path(session_id, "classes", label),
        content={"files": _files("images", images)},
        read=_as(Added),
    )


def get_class(session_id: str, label: str) -> Call[Class]:
    return Call(method="GET", path=_path(session_id, "classes", label), read=_as(Class))


def delete_class(session_id: str, label: str) -> Call[None]:
    return Call(method="DELETE", path=_path(session_id, "classes", label), read=_nothing)


def delete_example(session_id: str, label: str, example_id: str) -> Call[None]:
    path = _path(session_id, "classes", label, "examples", example_id)
    return Call(method="DELETE", path=path, read=_nothing)


def classify(
    session_id: str, images: Sequence[Image], unknown_below: float | None, all_faces: bool
) -> Call[Results]:
    return Call(
        method="POST",
        path=_path(session_id, "classify"),
        content={"files": _files("images", images), "data": _options(unknown_below, all_faces)},
        read=_as(Results),
    )


def classify_by(
    support: Sequence[tuple[str, Image]],
    images: Sequence[Image],
    unknown_below: float | None,
    all_faces: bool,
) -> Call[Results]:
    files = _files("support", [image for _, image in support]) + _files("images", images)
    labels = [label for label, _ in support]
    return Call(
        method="POST",
        path="/v1/classify",
        content={"files": files, "data": {"labels": labels, **_options(unknown_below, all_faces)}},
        read=_as(Results),
    )


def get_quality(session_id: str) -> Call[Quality]:
    return Call(method="GET", path=_path(session_id, "quality"), read=_as(Quality))


def export_session(session_id: str) -> Call[bytes]:
    return Call(method="GET", path=_path(session_id, "export"), read=lambda response: response.content)


def import_session(archive: Image) -> Call[Session]:
    return Call(
        method="POST",
        path="/v1/sessions/import",
        content={"content": _bytes(archive), "headers": {"Content-Type": "application/octet-stream"}},
        read=_as(Session),
        repeatable=False,
    )


def get_model() -> Call[Model]:
    return Call(method="GET", path="/v1/model", read=_as(Model))


def _as(kind: type[Any]) -> Callable[[httpx.Response], Any]:
    return lambda response: kind.model_validate_json(response.content)


def _nothing(response: httpx.Response) -> None:
    del response


def _path(session_id: str, *rest: str) -> str:
    return "/".join(["/v1/sessions", *(urllib.parse.quote(part, safe="") for part in (session_id, *rest))])


def _bytes(image: Image) -> bytes:
    return image if isinstance(image, bytes) else image.read_bytes()


def _files(field: str, images: Sequence[Image]) -> list[tuple[str, tuple[str, bytes]]]:
    return [
        (field, (image.name if isinstance(image, Path) else str(index), _bytes(image)))
        for index, image in enumerate(images)
    ]


def _options(unknown_below: float | None, all_faces: bool) -> dict[str, str]:
    options = {"all_faces": str(all_faces).lower()}
    return options if unknown_below is None else {**options, "unknown_below": str(unknown_below)}
