"""Services in this process, and requests and checks for any service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from app.api.state import ServiceState
from app.main import create_app
from app.settings import Settings
from tests.support.samples import SAMPLES, sample_bytes

Part = tuple[str, tuple[str, bytes, str]]
LOCAL = {"host": "127.0.0.1"}
"""Headers for a service without keys, which answers only requests to this machine"""


def settings(weights: Path, folder: Path, **changes: Any) -> Settings:
    """Settings of a service on the CPU with a new store in the folder."""
    return Settings(weights=weights, store=f"sqlite:///{folder}/s.sqlite3", device="cpu", **changes)


def client_of(weights: Path, folder: Path, **changes: Any) -> TestClient:
    """A client of a new service in this process. The service runs inside `with`."""
    app = create_app(settings(weights, folder, **changes))
    return TestClient(app, headers=LOCAL, raise_server_exceptions=False)


def state_of(client: TestClient) -> ServiceState:
    state: ServiceState = client.app.state  # type: ignore[attr-defined]
    return state


def image(data: bytes, name: str = "face.jpg", field: str = "images") -> Part:
    return (field, (name, data, "image/jpeg"))


def sample(expression: str, index: int, field: str = "images") -> Part:
    return image(sample_bytes(expression, index), f"{expression}-{index}.jpg", field)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def new_session(client: httpx.Client, **request: Any) -> str:
    """Create a session. Returns its URL path."""
    response = client.post("/v1/sessions", **request)
    assert response.status_code == 201, response.text
    return f"/v1/sessions/{response.json()['id']}"


def teach(
    client: httpx.Client, shots_of_class: dict[str, int], path: str | None = None, folder: Path = SAMPLES
) -> str:
    """Add the first images of each class in the folder to a session or a new one. Returns its path."""
    path = path or new_session(client)
    shots = [(label, index) for label, count in shots_of_class.items() for index in range(count)]
    files = [image((folder / label / f"{index:02}.jpg").read_bytes()) for label, index in shots]
    if files:
        labels = {"labels": [label for label, _ in shots]}
        response = client.post(f"{path}/support", files=files, data=labels)
        assert response.status_code == 201, response.text
    return path


def assert_problem(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= problem.keys()
