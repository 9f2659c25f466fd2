"""A transport in place of a service that limits its requests."""

from __future__ import annotations

import email
import email.message
import email.policy
from collections.abc import Sequence
from typing import Any

import httpx

SESSION: dict[str, object] = {
    "id": "s",
    "name": None,
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
    "revision": 0,
    "weights_sha256": "w",
    "metadata": {},
    "classes": [],
}
BOX = {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}
Fields = dict[str, list[tuple[str, bytes]]]


def form(request: httpx.Request) -> Fields:
    """The file names (or "") and the contents of each field of a multipart form."""
    header = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(header + request.content, policy=email.policy.HTTP)
    assert isinstance(message, email.message.EmailMessage)
    fields: Fields = {}
    for part in message.iter_parts():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields.setdefault(str(name), []).append((part.get_filename(""), content))
    return fields


class LimitedService(httpx.MockTransport):
    """Adds and classifies images by what they contain: "no" shows no face, "bad" is unreadable."""

    def __init__(self, *, max_images: int = 64, fails_at: int | None = None) -> None:
        self.requests: list[Fields] = []
        self._max_images, self._fails_at = max_images, fails_at
        super().__init__(self._answer)

    @property
    def sizes(self) -> list[int]:
        """The number of images in each request."""
        return [len(fields["images"]) for fields in self.requests]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(fields := form(request))
        if len(self.requests) - 1 == self._fails_at:
            return problem(409, "class_limit")
        images = fields["images"]
        if len(images) + len(fields.get("support", [])) > self._max_images:
            return problem(413, "body_too_large")
        if any(content.startswith(b"huge") for _, content in images):
            return problem(413, "body_too_large")
        return classified(images) if request.url.path.endswith("/classify") else added(fields, images)


def problem(status: int, code: str, **members: Any) -> httpx.Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": f"{code}!", "code": code}
    return httpx.Response(status, json={**body, **members})


def added(fields: Fields, images: Sequence[tuple[str, bytes]]) -> httpx.Response:
    examples, rejected = [], []
    for index, (name, content) in enumerate(images):
        if content.startswith(b"no"):
            rejected.append({"index": index, "filename": name, "code": "no_face", "detail": "no face"})
        else:
            label = fields["labels"][index][1].decode() if "labels" in fields else "one class"
            ids = fields.get("example_ids")
            example_id = ids[index][1].decode() if ids else content.decode()
            examples.append({"index": index, "example_id": example_id, "label": label, "box": BOX})
    if not examples:
        return problem(422, "no_face", rejected=rejected)
    return httpx.Response(201, json={"session": SESSION, "added": examples, "rejected": rejected})


def classified(images: Sequence[tuple[str, bytes]]) -> httpx.Response:
    error = {"code": "image_unreadable", "detail": "damaged"}
    results = [
        {"index": index, "filename": name, "faces": []} | ({"error": error} if content == b"bad" else {})
        for index, (name, content) in enumerate(images)
    ]
    if all("error" in result for result in results):
        return problem(400, "image_unreadable")
    body = {"results": results, "model": {"weights_sha256": "w"}, "unknown_below": 0.5}
    return httpx.Response(200, json={**body, "timings_ms": {"faces": 2.0, "network": 1.0}})
