"""Whole requests: multipart, JSON and safetensors bodies, sent to the application in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from model.checkpoint import CheckpointConfig, Provenance, save_checkpoint
from tests.conftest import LOCAL, sample_bytes
from tests.fuzz.limits import MIB, Target
from tests.model.golden import seeded_network
from tests.support.image_seeds import image_seeds

SESSION = "/v1/sessions/{session}"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
INTERNAL_TEXT = ("Traceback", "site-packages", 'File "', ".py", "/tmp", "object at 0x")


class Requests(Target):
    """An input is one line with method, path and content type, then the body."""

    memory_limit_bytes = 512 * MIB
    may_print = True  # The log. A fault shows in the response.

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        weights = Path(self._folder.name, "w.safetensors")
        provenance = Provenance(trained_on="nothing")
        save_checkpoint(weights, seeded_network(), config=CheckpointConfig(), provenance=provenance)
        store = f"sqlite:///{self._folder.name}/s.sqlite3"
        app = create_app(Settings(weights=weights, store=store, device="cpu", max_body_bytes=2 * MIB))
        self._client = TestClient(app, headers=LOCAL, raise_server_exceptions=False)
        self._client.__enter__()
        self._session = self._new_session()
        archive = self._client.get(f"/v1/sessions/{self._session}/export").content
        self._bodies = _bodies(archive)
        self.seeds = [_seed(*body) for body in self._bodies]

    def close(self) -> None:
        self._client.__exit__()

    def accepts(self, data: bytes) -> bool:
        head, _, body = data.partition(b"\n")
        method, path, content_type = [*head.decode("latin-1").split(" ", 2), "", ""][:3]
        if (method, path) not in {known[:2] for known in self._bodies}:
            return False
        response = self._client.request(
            method,
            path.replace("{session}", self._session),
            content=body,
            headers=[(b"content-type", content_type.encode("latin-1"))],
        )
        assert response.status_code < 500, response.text
        assert not any(text in response.text for text in INTERNAL_TEXT), response.text
        if response.is_success:
            assert response.headers["content-type"] == "application/json"
            if not path.endswith("/classify"):
                self._client.delete(f"/v1/sessions/{self._session}")
                self._session = self._new_session()
            return True
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
        assert response.json()["code"]
        return False

    def _new_session(self) -> str:
        """A session with two classes."""
        session: str = self._client.post("/v1/sessions").json()["id"]
        files = [("images", ("f.jpg", sample_bytes(name, 0))) for name in ("anger", "happiness")]
        data = {"labels": ["a", "b"]}
        self._client.post(f"/v1/sessions/{session}/support", files=files, data=data).raise_for_status()
        return session


def _bodies(archive: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and body of valid requests to every path that takes a body."""
    faces = [("images", ("f.jpg", sample_bytes(name, 0))) for name in ("anger", "happiness")]
    support = [("support", file) for _, file in faces]
    labels = {"labels": ["a", "é笑"]}
    options = {"unknown_below": "0.5", "all_faces": "true", "regions": "true"}
    binary = {"Content-Type": "application/octet-stream"}
    small = [("images", ("f", image)) for image in image_seeds() if len(image) < 30_000]
    return [
        *(("POST", f"{SESSION}/classify", {"files": [image]}) for image in small),
        ("POST", f"{SESSION}/classify", {"files": faces, "data": options}),
        ("POST", f"{SESSION}/support", {"files": faces, "data": labels}),
        ("POST", f"{SESSION}/classes/a/examples", {"files": faces, "data": {"example_ids": ["x", "y"]}}),
        ("PUT", f"{SESSION}/classes/a", {"files": faces}),
        ("POST", "/v1/classify", {"files": support + faces, "data": labels}),
        ("POST", "/v1/sessions/import", {"files": [("file", ("f", archive))]}),
        ("POST", "/v1/sessions/import", {"content": archive, "headers": binary}),
        ("POST", "/v1/sessions", {"json": {"name": "n", "ttl_s": 60, "metadata": {"k": [1, None]}}}),
    ]


def _seed(method: str, path: str, body: dict[str, Any]) -> bytes:
    headers = MULTIPART if "files" in body else {}
    request = httpx.Request(method, "http://x", **{"headers": headers, **body})
    return f"{method} {path} {request.headers['content-type']}\n".encode() + request.read()
