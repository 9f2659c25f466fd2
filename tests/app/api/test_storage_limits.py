"""What clients see when the store is full or a key has used its quota."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.support.api import assert_problem, client_of
from tests.support.small_disk import small_files

LARGE = {"metadata": {str(number): "x" * 1000 for number in range(15)}}
"""A session of 15 KB"""


@pytest.fixture
def client(weights: Path, tmp_path: Path) -> Iterator[TestClient]:
    with small_files(400), client_of(weights, tmp_path) as client:
        yield client


def create_until_refused(client: TestClient) -> tuple[list[str], httpx.Response]:
    """The paths of the sessions, and the refusal."""
    paths: list[str] = []
    while (response := client.post("/v1/sessions", json=LARGE)).status_code == 201:
        paths.append(f"/v1/sessions/{response.json()['id']}")
    return paths, response


def test_a_full_store_answers_507_and_can_be_emptied(client: TestClient) -> None:
    paths, refused = create_until_refused(client)
    assert_problem(refused, 507, "storage_full")
    assert_problem(client.get("/readyz"), 507, "storage_full")
    assert client.get("/livez").status_code == 200
    assert "csrn_ready 0.0" in client.get("/metrics").text
    assert all(client.get(path).json()["metadata"] == LARGE["metadata"] for path in paths)
    assert {client.delete(path).status_code for path in paths} == {204}
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/sessions", json=LARGE).status_code == 201


def test_a_key_has_a_quota_of_bytes_and_the_error_states_it(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, max_bytes_per_key=40_000) as client:
        paths, refused = create_until_refused(client)
        assert len(paths) == 2
        assert_problem(refused, 409, "byte_limit")
        assert "40000 bytes" in refused.json()["detail"]
        assert client.get("/readyz").status_code == 200
        client.delete(paths[0])
        assert client.post("/v1/sessions", json=LARGE).status_code == 201
