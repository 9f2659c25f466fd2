"""The parts of a request: the address, the key, the image files and the options."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import httpx

from csrn_client.errors import InvalidURL

Image = bytes | Path
"""The bytes of an image file, or the path of the file."""


def service_url(url: str) -> httpx.URL:
    """The address of the service. Raises: InvalidURL."""
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


def key_headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def file_bytes(file: Image) -> bytes:
    """The content of a file. Raises: OSError."""
    return file if isinstance(file, bytes) else file.read_bytes()


def file_parts(field: str, images: Sequence[Image]) -> list[tuple[str, tuple[str, bytes]]]:
    """Images as parts of a multipart form, named after their files or numbered. Raises: OSError."""
    return [
        (field, (image.name if isinstance(image, Path) else str(index), file_bytes(image)))
        for index, image in enumerate(images)
    ]


def classify_options(unknown_below: float | None, all_faces: bool) -> dict[str, str]:
    """The form fields that say how to classify."""
    options = {"all_faces": str(all_faces).lower()}
    return options if unknown_below is None else {**options, "unknown_below": str(unknown_below)}
