"""The content types of requests."""

from __future__ import annotations

from starlette.datastructures import Headers

FORM, JSON = "multipart/form-data", "application/json"
IMAGE_MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")


def media_type(headers: Headers) -> str:
    """The content type of a request in lower case and without parameters. Empty if it states none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()
