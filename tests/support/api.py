"""Settings, form parts and checks for tests of the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.settings import Settings
from tests.support.samples import sample_bytes

Part = tuple[str, tuple[str, bytes, str]]
LOCAL = {"host": "127.0.0.1"}
"""Headers for a service without keys, which answers only requests to this machine"""


def settings(weights: Path, folder: Path, **changes: Any) -> Settings:
    """Settings of a service on the CPU with a new store in the folder."""
    return Settings(weights=weights, store=f"sqlite:///{folder}/s.sqlite3", device="cpu", **changes)


def image(data: bytes, name: str = "face.jpg", field: str = "images") -> Part:
    return (field, (name, data, "image/jpeg"))


def sample(expression: str, index: int, field: str = "images") -> Part:
    return image(sample_bytes(expression, index), f"{expression}-{index}.jpg", field)


def assert_problem(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= problem.keys()
