"""A service in this process, and sessions for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from app.main import create_app
from tests.support.api import LOCAL, sample, settings


def client_of(weights: Path, folder: Path, **changes: Any) -> TestClient:
    """A client of a new service. It runs inside `with`."""
    app = create_app(settings(weights, folder, **changes))
    return TestClient(app, headers=LOCAL, raise_server_exceptions=False)


def new_session(client: TestClient, **request: Any) -> str:
    """The path of a new session."""
    response = client.post("/v1/sessions", **request)
    assert response.status_code == 201
    return f"/v1/sessions/{response.json()['id']}"


def teach(client: TestClient, path: str, shots_of_class: dict[str, int]) -> str:
    """Add sample faces of some expressions to a session, and return its path."""
    files = [sample(label, index) for label, shots in shots_of_class.items() for index in range(shots)]
    labels = [label for label, shots in shots_of_class.items() for _ in range(shots)]
    if files:
        response = client.post(f"{path}/support", files=files, data={"labels": labels})
        assert response.status_code == 201
    return path


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
