"""Who may use the API, and how much, before a request reaches its route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from tests.support.api import assert_problem, bearer, client_of, new_session, sample, settings, state_of
from tests.support.samples import sample_bytes

KEYS = "ann:key-of-ann,bob:key-of-bob,zoe:key-of-zoe"
ANN, BOB, ZOE = (bearer(f"key-of-{name}") for name in ("ann", "bob", "zoe"))


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("store")
    with client_of(weights, folder, api_keys=KEYS, rate_limit="20/hour") as client:
        yield client


def test_sessions_belong_to_the_name_of_their_key(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, api_keys=KEYS) as client:
        path = new_session(client, headers=ANN)
        assert client.get(path, headers=ANN).status_code == 200
        assert client.get("/v1/sessions", headers=BOB).json()["sessions"] == []
        face = [sample("anger", 0)]
        added = client.post(f"{path}/classes/a/examples", headers=ANN, files=face)
        for method, place, content in (
            ("GET", "", {}),
            ("GET", "/quality", {}),
            ("GET", "/export", {}),
            ("GET", "/classes/a", {}),
            ("PATCH", "", {"json": {"name": "x"}}),
            ("PATCH", "/classes/a", {"json": {"enabled": False}}),
            ("POST", "/classify", {"files": face}),
            ("POST", "/support", {"files": face, "data": {"labels": ["a"]}}),
            ("POST", "/classes/a/examples", {"files": face}),
            ("PUT", "/classes/a", {"files": face}),
            ("DELETE", f"/classes/a/examples/{added.json()['added'][0]['example_id']}", {}),
            ("DELETE", "/classes/a", {}),
            ("DELETE", "", {}),
        ):
            refused = client.request(method, f"{path}{place}", headers=BOB, **content)
            assert_problem(refused, 404, "session_not_found")
        for headers in ({}, bearer("wrong"), {"Authorization": "Basic x"}):
            refused = client.get(path, headers=headers)
            assert_problem(refused, 401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get("/readyz").status_code == 200


def test_an_address_with_a_null_character_does_not_exist(client: TestClient) -> None:
    assert_problem(client.get("/v1/sessions/%00", headers=ZOE), 404, "not_found")
    refused = client.post("/v1/sessions", json={"name": "a\0b"}, headers=ZOE)
    assert_problem(refused, 422, "invalid_request")


def test_the_body_of_a_request_without_a_key_is_not_read(client: TestClient) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    refused = client.post("/v1/classify", content=body(), headers={"Content-Type": "multipart/form-data"})
    assert_problem(refused, 401, "unauthorized")


def test_the_rate_of_a_key_counts_requests_and_images(client: TestClient) -> None:
    path = new_session(client, headers=BOB)
    images = [sample("anger", index) for index in range(3)]
    responses = [client.post(f"{path}/classify", files=images, headers=BOB) for _ in range(6)]
    # The session counts 1 and each classification 4: the first four use 17 of 20.
    assert [response.status_code for response in responses] == [422, 422, 422, 422, 429, 429]
    assert_problem(responses[-1], 429, "rate_limited")
    assert 1 <= int(responses[-1].headers["retry-after"]) <= 3600
    assert client.get("/v1/model", headers=ZOE).status_code == 200


def test_a_request_with_more_images_than_its_rate_can_never_be_answered(
    weights: Path, tmp_path: Path
) -> None:
    with client_of(weights, tmp_path, api_keys=KEYS, rate_limit="4/minute") as client:
        images = [sample("anger", 0, "support"), *(sample("anger", index) for index in range(3))]
        refused = client.post("/v1/classify", files=images, data={"labels": ["anger"]}, headers=ANN)
        assert_problem(refused, 413, "body_too_large")
        assert refused.json()["detail"] == "the rate allows at most 3 images in one request"
        assert "retry-after" not in refused.headers
        answered = client.post("/v1/classify", files=images[:3], data={"labels": ["anger"]}, headers=BOB)
        assert answered.status_code == 200


def test_a_key_that_trickles_bodies_takes_only_its_own_places(weights: Path, tmp_path: Path) -> None:
    app = create_app(
        settings(
            weights, tmp_path, api_keys=KEYS, max_requests=5, max_requests_per_key=3, max_body_bytes=2**20
        )
    )
    started, end = asyncio.Semaphore(0), asyncio.Event()

    async def trickled_body() -> AsyncIterator[bytes]:
        yield b"{"
        started.release()
        await end.wait()
        yield b"}"

    async def use() -> None:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
            url, json = "http://test/v1/sessions", {"content-type": "application/json"}
            slow = [
                asyncio.create_task(client.post(url, content=trickled_body(), headers={**ANN, **json}))
                for _ in range(3)
            ]
            for _ in slow:
                await started.acquire()
            refused = await client.get(url, headers=ANN)
            assert_problem(refused, 429, "overloaded")
            assert "a key may have 3 requests" in refused.json()["detail"]
            assert refused.headers["retry-after"] == "1"
            others = await asyncio.gather(*(client.post(url, headers=key) for key in (BOB, ZOE)))
            assert [response.status_code for response in others] == [201, 201]
            assert (await client.get("http://test/readyz")).status_code == 200
            end.set()
            assert [(await task).status_code for task in slow] == [201, 201, 201]
            assert (await client.get(url, headers=ANN)).status_code == 200

    asyncio.run(use())


def test_a_body_that_does_not_fit_beside_others_of_the_key_is_refused(weights: Path, tmp_path: Path) -> None:
    limits = {"max_body_bytes": 1000, "max_body_bytes_in_progress": 2000}
    with (
        client_of(weights, tmp_path, api_keys=KEYS, **limits) as client,
        state_of(client).body_bytes.hold("ann", 990),
    ):
        body = {"name": "a name"}
        assert_problem(client.post("/v1/sessions", json=body, headers=ANN), 429, "overloaded")
        assert client.post("/v1/sessions", json=body, headers=BOB).status_code == 201
        assert client.post("/v1/sessions", headers=ANN).status_code == 201


def test_a_json_body_counts_four_times_because_it_is_in_memory_in_several_forms(
    weights: Path, tmp_path: Path
) -> None:
    limits = {"max_body_bytes": 1000, "max_body_bytes_in_progress": 4000}
    with client_of(weights, tmp_path, api_keys=KEYS, **limits) as client:
        path = f"/v1/sessions/{client.post('/v1/sessions', headers=ANN).json()['id']}"
        with state_of(client).body_bytes.hold("ann", 900):
            for media_type, status in (
                ("application/json", 429),
                ("Application/JSON; x=y", 429),
                ("image/png", 422),
            ):
                headers = {**ANN, "content-type": media_type}
                assert (
                    client.post(f"{path}/classify", content=b"{" * 50, headers=headers).status_code == status
                )
        whole = {**ANN, "content-type": "application/json"}
        assert client.post(f"{path}/classify", content=b"{" * 1000, headers=whole).status_code == 422


def test_a_service_without_keys_refuses_pages_of_other_origins(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path) as client:
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


FORWARDED = [
    ("Forwarded", "for=192.0.2.60;proto=https"),
    ("X-Forwarded-For", "192.0.2.60"),
    ("X-Forwarded-Host", "faces.example"),
    ("x-forwarded-proto", "https"),
]


def test_a_service_without_keys_refuses_what_a_proxy_passes_on(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path) as client:
        path = new_session(client)
        for name, value in FORWARDED:
            refused = client.post("/v1/sessions", headers={name: value})
            assert_problem(refused, 403, "forbidden_origin")
            detail = refused.json()["detail"]
            assert f"the header {name.lower()} shows that a proxy passes requests on" in detail
            assert "CSRN_API_KEYS" in detail
            assert "CSRN_ALLOW_ANONYMOUS=true" in detail
            with client.websocket_connect(f"{path}/stream", headers={name: value}) as socket:
                closed = socket.receive()
                assert (closed["code"], closed["reason"]) == (4403, "forbidden_origin")
        assert client.get("/readyz", headers=dict(FORWARDED)).status_code == 200


@pytest.mark.parametrize("setting", [{"api_keys": KEYS}, {"allow_anonymous": True}])
def test_with_keys_or_for_everyone_a_proxy_may_pass_requests_on(
    weights: Path, tmp_path: Path, setting: dict[str, Any]
) -> None:
    with client_of(weights, tmp_path, **setting) as client:
        headers = {**dict(FORWARDED), **ANN}
        path = new_session(client, headers=headers)
        with client.websocket_connect(f"{path}/stream", headers=headers) as socket:
            socket.send_bytes(sample_bytes("anger", 4))
            assert socket.receive_json()["index"] == 0


def test_a_service_for_everyone_answers_under_any_name(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, allow_anonymous=True) as client:
        assert client.post("/v1/sessions", headers={"host": "faces.example"}).status_code == 201
        foreign = {"origin": "https://elsewhere.example"}
        assert_problem(client.post("/v1/sessions", headers=foreign), 403, "forbidden_origin")
