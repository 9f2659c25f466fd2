from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.api import client_of, new_session, teach
from tests.support.samples import EXPRESSIONS

LIMITS = {"max_body_bytes": 2**20, "max_images": 40, "max_image_bytes": 2**19, "max_streams": 2}


@pytest.fixture(scope="session")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service without keys for all tests that need no settings of their own."""
    with client_of(weights, tmp_path_factory.mktemp("store"), **LIMITS) as client:
        yield client


@pytest.fixture
def session(client: TestClient) -> str:
    """The path of an empty session."""
    return new_session(client, json={"name": "test"})


@pytest.fixture
def taught(client: TestClient, session: str) -> str:
    """The path of a session with two examples of each expression."""
    return teach(client, dict.fromkeys(EXPRESSIONS, 2), session)
