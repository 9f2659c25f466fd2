"""Who may ask, and how much: over the whole application."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.access.origins import is_loopback
from app.main import create_app
from tests.support.api import LOCAL, assert_problem, image, sample, settings
from tests.support.samples import sample_bytes


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("store")
    limits = {"max_images": 3, "max_image_bytes": 100_000, "rate_limit": "20/hour"}
    app = create_app(
        settings(weights, folder, api_keys="ann:key-of-ann,bob:key-of-bob,zoe:key-of-zoe", **limits)
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-of-{name}"}


@pytest.fixture
def session(client: TestClient) -> str:
    session_id: str = client.post("/v1/sessions", headers=bearer("ann")).json()["id"]
    return f"/v1/sessions/{session_id}"


def test_a_body_is_not_read_for_who_has_no_key(client: TestClient) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    refused = client.post("/v1/classify", content=body(), headers={"Content-Type": "multipart/form-data"})
    assert_problem(refused, 401, "unauthorized")


def test_a_request_has_only_so_many_parts(client: TestClient, session: str) -> None:
    faces = [sample("anger", index) for index in range(4)]
    many = {"labels": ["a"] * 4}
    refused = client.post(f"{session}/support", files=faces, data=many, headers=bearer("ann"))
    assert_problem(refused, 413, "body_too_large")
    fields = {"labels": ["a"] * 20}
    refused = client.post(f"{session}/support", files=faces[:1], data=fields, headers=bearer("ann"))
    assert_problem(refused, 413, "body_too_large")
    long = {"labels": ["a" * 5000]}
    refused = client.post(f"{session}/support", files=faces[:1], data=long, headers=bearer("ann"))
    assert_problem(refused, 413, "body_too_large")


def test_an_image_has_only_so_many_bytes(client: TestClient, session: str) -> None:
    large = image(sample_bytes("anger", 0) + bytes(100_000))
    refused = client.post(f"{session}/classify", files=[large], headers=bearer("ann"))
    assert_problem(refused, 413, "body_too_large")


def test_a_key_has_a_rate_and_images_count(client: TestClient) -> None:
    path = "/v1/sessions/" + client.post("/v1/sessions", headers=bearer("bob")).json()["id"]
    statuses = []
    for _ in range(6):
        answer = client.post(
            f"{path}/classify", files=[sample("anger", i) for i in range(3)], headers=bearer("bob")
        )
        statuses.append(answer.status_code)
    # One for the session, then four for each: 1 + 4 * 4 = 17, and the fifth would be 21.
    assert statuses == [422, 422, 422, 422, 429, 429]
    assert_problem(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 3600
    assert client.get("/v1/model", headers=bearer("zoe")).status_code == 200


def test_a_request_that_no_rate_allows_is_told_so(weights: Path, tmp_path: Path) -> None:
    app = create_app(settings(weights, tmp_path, rate_limit="2/minute"))
    with TestClient(app, headers=LOCAL) as client:
        path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
        refused = client.post(f"{path}/classify", files=[sample("anger", index) for index in range(3)])
        assert_problem(refused, 429, "rate_limited")
        assert "2 at most" in refused.json()["detail"]


@pytest.mark.parametrize("rate", ["often", "0/minute", "10/minute;5/second"])
def test_a_rate_that_cannot_be_kept_is_refused(weights: Path, tmp_path: Path, rate: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        settings(weights, tmp_path, rate_limit=rate)


def test_without_room_for_a_body_the_service_is_at_fault(
    client: TestClient, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    large = image(bytes(2 * 2**20))
    refused = client.post(f"{session}/classify", files=[large], headers=bearer("ann"))
    assert_problem(refused, 503, "not_ready")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("::1", True),
        ("[::1]:80", True),
        ("127.3.2.1:80", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("localhost.example", False),
        ("127.0.0.1.example:80", False),
        ("", False),
        ("[", False),
    ],
)
def test_names_of_this_machine_are_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_without_keys_pages_of_other_origins_are_refused(weights: Path, tmp_path: Path) -> None:
    app = create_app(settings(weights, tmp_path))
    with TestClient(app, headers=LOCAL) as client:
        assert client.post("/v1/sessions").status_code == 201
        own = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
        assert client.post("/v1/sessions", headers=own).status_code == 201
        for headers in (
            {"origin": "https://elsewhere.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1", "sec-fetch-site": "cross-site"},
            {"host": "rebound.example"},
            {"host": "rebound.example:8000", "origin": "http://rebound.example:8000"},
        ):
            assert_problem(client.post("/v1/sessions", headers=headers), 403, "forbidden_origin")
        assert client.get("/readyz", headers={"host": "10.0.0.7:8000"}).status_code == 200
        for host in ("localhost", "localhost:8000", "[::1]:8000", "127.0.0.1:9"):
            assert client.get("/v1/model", headers={"host": host}).status_code == 200


def test_whoever_may_serve_others_without_keys_is_asked_by_any_name(weights: Path, tmp_path: Path) -> None:
    with TestClient(create_app(settings(weights, tmp_path, allow_anonymous=True))) as client:
        assert client.post("/v1/sessions", headers={"host": "faces.example"}).status_code == 201
        foreign = {"origin": "https://elsewhere.example"}
        assert_problem(client.post("/v1/sessions", headers=foreign), 403, "forbidden_origin")


def test_the_api_is_described_without_anything_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text.replace("http://www.w3.org", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/docs/files/swagger-ui-bundle.js").status_code == 200
