"""Damaged requests to the application itself, in process."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import anyio
from fastapi.testclient import TestClient

from app.api.errors import PROBLEM_MEDIA_TYPE
from app.api.problems import CODES
from app.main import create_app
from app.settings import Settings
from model.checkpoint import CheckpointConfig, Provenance, save_checkpoint
from tests.conftest import LOCAL, sample_bytes
from tests.fuzz.archive_targets import damaged_safetensors
from tests.fuzz.image_mutations import damaged_image
from tests.fuzz.image_seeds import image_seeds
from tests.fuzz.mutations import damaged
from tests.fuzz.target import MIB, Target
from tests.support.golden import seeded_network

ROUTES = (
    ("POST", "/v1/sessions/{s}/classify"),
    ("POST", "/v1/sessions/{s}/support"),
    ("POST", "/v1/sessions/{s}/classes/a/examples"),
    ("PUT", "/v1/sessions/{s}/classes/a"),
    ("POST", "/v1/classify"),
    ("POST", "/v1/sessions/import"),
)
NAMES = ("images", "labels", "support", "example_ids", "unknown_below", "all_faces", "regions", "file", "")
WORDS = (b"a", b"", b"true", b"0.5", b"nan", b"1e999", b"x" * 65, b"\xff\xfe", "é笑".encode(), b"\0", b"..")
LEAKS = ("Traceback", "site-packages", 'File "', ".py", "/tmp", "object at 0x")


class Requests(Target):
    """Bodies through app.main.create_app: no 5xx, every refusal a documented problem."""

    name, share = "requests", 0.15
    may_grow_bytes = 512 * MIB
    may_print = True  # The log; a fault shows by its answer.

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        weights = Path(self._folder.name) / "w.safetensors"
        provenance = Provenance(trained_on="nothing")
        save_checkpoint(weights, seeded_network(), config=CheckpointConfig(), provenance=provenance)
        store = f"sqlite:///{self._folder.name}/s.sqlite3"
        self._app = create_app(Settings(weights=weights, store=store, device="cpu", max_body_bytes=2 * MIB))
        self._client = TestClient(self._app, headers=LOCAL, raise_server_exceptions=False)
        self._client.__enter__()
        self._images = [data for data in image_seeds() if len(data) < 30_000]
        self._images += [sample_bytes("anger", 0), sample_bytes("happiness", 1)]
        self._session = self._taught()
        self._archive = self._client.get(f"/v1/sessions/{self._session}/export").content

    def make(self, rng: random.Random) -> bytes:
        """A line of JSON (method, path, content type, pieces) and the body."""
        method, path = rng.choice(ROUTES)
        boundary = rng.choice(("b", "b", "b", "-" * 70, "b b"))
        content_type = f"multipart/form-data; boundary={boundary}"
        if path.endswith("import") and rng.random() < 0.7:
            body, content_type = (
                damaged_safetensors(rng, self._archive, [self._archive]),
                "application/octet-stream",
            )
        else:
            body = self._multipart(rng, path, boundary.encode())
            if rng.random() < 0.5:
                body = damaged(rng, body, self._images)
        if rng.random() < 0.1:
            content_type = damaged(rng, content_type.encode(), [b"; charset=utf-16"]).decode("latin-1")
        head = {"method": method, "path": path, "content_type": content_type, "pieces": rng.randint(1, 4)}
        return json.dumps(head).encode() + b"\n" + body

    def accepts(self, data: bytes) -> bool:
        line, _, body = data.partition(b"\n")
        head = json.loads(line)
        path = head["path"].format(s=self._session)
        status, content_type, answer = self._answer(head, path, body)
        text = answer.decode()
        assert status < 500, (status, text)
        assert not any(leak in text for leak in LEAKS), text
        if status < 400:
            assert content_type == "application/json", content_type
            json.loads(text)
            if not path.endswith("/classify"):
                self._client.delete(f"/v1/sessions/{self._session}")
                self._session = self._taught()
            return True
        assert content_type == PROBLEM_MEDIA_TYPE, content_type
        problem = json.loads(text)
        assert problem["status"] == status
        # Where no image could be added, each one's code stands with 422.
        assert status in (CODES[problem["code"]][0], 422), problem
        return False

    def close(self) -> None:
        self._client.__exit__()
        self._folder.cleanup()

    def _taught(self) -> str:
        session: str = self._client.post("/v1/sessions").json()["id"]
        files = [("images", (f"{e}.jpg", sample_bytes(e, 0))) for e in ("anger", "happiness")]
        data = {"labels": ["a", "b"]}
        self._client.post(f"/v1/sessions/{session}/support", files=files, data=data).raise_for_status()
        return session

    def _multipart(self, rng: random.Random, path: str, boundary: bytes) -> bytes:
        """The parts that the route asks for, some of them damaged, and some that it does not."""
        images = rng.randint(1, 3)
        wanted = ["images"] * images
        if path.endswith("/support"):
            wanted += ["labels"] * images
        elif path == "/v1/classify":
            wanted += ["support", "labels"]
        elif path.endswith("import"):
            wanted = ["file"]
        wanted += rng.choices(NAMES, k=rng.choice((0, 0, 0, 1, 3)))
        rng.shuffle(wanted)
        parts = [self._part(rng, name) for name in wanted]
        line = b"\n" if rng.random() < 0.03 else b"\r\n"
        return (
            b"".join(b"--" + boundary + line + part + line for part in parts)
            + b"--"
            + boundary
            + b"--"
            + line
        )

    def _part(self, rng: random.Random, name: str) -> bytes:
        as_file = name in ("images", "support", "file") or rng.random() < 0.05
        header = f'Content-Disposition: form-data; name="{name}"'.encode()
        if as_file:
            names = (
                b"f.jpg",
                b"",
                b"../../etc/x",
                b"a" * 300,
                "笑.png".encode(),
                b'q\\".jpg',
                b"\xff",
                b"a\0b",
            )
            header += b'; filename="' + rng.choice(names) + b'"'
        if rng.random() < 0.3:
            kinds = (
                b"image/jpeg",
                b"text/plain; charset=utf-7",
                b"",
                b"multipart/mixed; boundary=x",
                b"\xff",
            )
            header += b"\r\nContent-Type: " + rng.choice(kinds)
        if rng.random() < 0.03:
            header += b"\r\nContent-Transfer-Encoding: base64"
        if rng.random() < 0.1:
            header = damaged(rng, header, [b"; filename*=utf-8''%ff%00"])
        return header + b"\r\n\r\n" + self._content(rng, name, as_file)

    def _content(self, rng: random.Random, name: str, as_file: bool) -> bytes:
        if not as_file:
            return rng.choice(WORDS)
        if name == "file":
            return damaged_safetensors(rng, self._archive, [self._archive])
        data = rng.choice(self._images)
        return damaged_image(rng, data, self._images) if rng.random() < 0.3 else data

    def _answer(self, head: dict[str, Any], path: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body, by a plain ASGI call: a client would mend what is sent."""
        size = len(body) // head["pieces"] + 1
        messages = [
            {
                "type": "http.request",
                "body": body[start : start + size],
                "more_body": start + size < len(body),
            }
            for start in range(0, max(len(body), 1), size)
        ]
        answered: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            if messages:
                return messages.pop(0)
            # The client waits for its answer.

            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            answered.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": head["method"],
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", LOCAL["host"].encode()),
                (b"content-type", head["content_type"].encode("latin-1")),
                (b"content-length", str(len(body)).encode()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }

        async def call() -> None:
            await self._app(scope, receive, send)

        assert self._client.portal is not None
        self._client.portal.call(call)
        headers = dict(answered[0]["headers"])
        sent = b"".join(message.get("body", b"") for message in answered[1:])
        return answered[0]["status"], headers.get(b"content-type", b"").decode(), sent
