"""Whole requests: multipart, JSON and safetensors bodies, sent to the application in this process."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from app.main import create_app
from tests.fuzz.limits import MIB, Target
from tests.support.api import LOCAL, settings
from tests.support.image_seeds import image_seeds
from tests.support.networks import save_full_checkpoint
from tests.support.samples import distinct_copy, sample_bytes

SESSION = "/v1/sessions/{session}"
FACES = [("images", ("f.jpg", sample_bytes(name, 0))) for name in ("anger", "happiness")]
NEW_FACES = [(field, (name, distinct_copy(data, 1))) for field, (name, data) in FACES]
"""Faces that are no examples of the session"""
LABELS = {"labels": ["a", "é笑"]}
JPEG = {"Content-Type": "image/jpeg"}
INTERNAL_TEXT = ("Traceback", "site-packages", 'File "', ".py", "/tmp", "object at 0x")


class Refused(Exception):
    """The application answered with a documented problem."""


def requests() -> Target:
    """Requests. The first line of an input is method, path and content type, the rest is the body."""
    folder = tempfile.TemporaryDirectory()
    weights = Path(folder.name, "w.safetensors")
    save_full_checkpoint(weights)
    app = create_app(settings(weights, Path(folder.name), max_body_bytes=2 * MIB))
    client = TestClient(app, headers=LOCAL, raise_server_exceptions=False).__enter__()
    session = ""

    def new_session() -> str:
        path = f"/v1/sessions/{client.post('/v1/sessions').json()['id']}"
        client.post(f"{path}/support", files=FACES, data=LABELS).raise_for_status()
        return path

    def close() -> None:
        client.__exit__()
        folder.cleanup()

    def parse(data: bytes) -> None:
        nonlocal session
        head, _, body = data.partition(b"\n")
        method, path, content_type = [*head.decode("latin-1").split(" ", 2), "", ""][:3]
        if f"{method} {path}" not in routes:
            raise Refused
        headers = [(b"content-type", content_type.encode("latin-1"))]
        response = client.request(method, path.replace(SESSION, session), content=body, headers=headers)
        assert response.status_code < 500, response.text
        assert not any(text in response.text for text in INTERNAL_TEXT), response.text
        if response.is_error:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == response.status_code
            raise Refused(response.json()["code"])
        assert response.headers["content-type"] == "application/json"
        if not path.endswith("/classify"):
            client.delete(session)
            session = new_session()

    session = new_session()
    valid = valid_requests(client.get(f"{session}/export").content)
    routes = {route for route, _ in valid}
    return Target(
        parse=parse,
        refused=Refused,
        seeds=[written(*request) for request in valid],
        memory_limit_bytes=512 * MIB,
        may_print=True,  # The application prints its log. A fault shows in the response.
        close=close,
    )


def valid_requests(archive: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Route and body of requests to every path that takes a body."""
    support = [("support", file) for _, file in FACES]
    options = {"unknown_below": "0.5", "all_faces": "true", "regions": "true", "top_k": "1"}
    values = {"unknown_below": 0.5, "all_faces": True, "regions": True, "top_k": 1}
    texts = [base64.b64encode(image).decode() for _, (_, image) in FACES]
    data_url = f"data:image/jpeg;base64,{texts[0]}"
    binary = {"Content-Type": "application/octet-stream"}
    small = [("images", ("f", image)) for image in image_seeds() if len(image) < 30_000]
    return [
        *((f"POST {SESSION}/classify", {"files": [image]}) for image in small),
        (f"POST {SESSION}/classify", {"files": FACES, "data": options}),
        (f"POST {SESSION}/support", {"files": NEW_FACES, "data": LABELS}),
        (f"POST {SESSION}/classes/a/examples", {"files": NEW_FACES, "data": {"example_ids": ["x", "y"]}}),
        (f"POST {SESSION}/classify", {"json": {"images": [data_url, texts[1]], **values}}),
        *((f"POST {SESSION}/classify", {"content": image, "headers": JPEG}) for image in image_seeds()[:2]),
        (f"POST {SESSION}/support", {"json": {"images": texts, **LABELS}}),
        ("POST /v1/classify", {"json": {"support": texts, "images": texts, **LABELS}}),
        (f"PUT {SESSION}/classes/a", {"files": NEW_FACES}),
        (f"PATCH {SESSION}", {"json": {"name": "n", "ttl_s": 60, "metadata": {"k": 1}}}),
        (f"PATCH {SESSION}/classes/a", {"json": {"label": "b", "enabled": False}}),
        ("POST /v1/classify", {"files": support + FACES, "data": LABELS}),
        ("POST /v1/sessions/import", {"files": [("file", ("f", archive))]}),
        ("POST /v1/sessions/import", {"content": archive, "headers": binary}),
        ("POST /v1/sessions", {"json": {"name": "n", "ttl_s": 60, "metadata": {"k": [1, None]}}}),
    ]


def written(route: str, body: dict[str, Any]) -> bytes:
    """A request as the target reads it."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"} if "files" in body else {}
    request = httpx.Request("POST", "http://x", **{"headers": headers, **body})
    return f"{route} {request.headers['content-type']}\n".encode() + request.read()
