"""Web pages of the origins in CSRN_ALLOWED_ORIGINS may use the service, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.api import assert_problem, bearer, client_of, new_session, sample
from tests.support.samples import sample_bytes

LISTED, OTHER = "https://app.example:8443", "https://elsewhere.example"
KEY = bearer("key-of-ann")


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    limits = {"rate_limit": "12/hour", "max_body_bytes": 2**16}
    settings = {
        "api_keys": "ann:key-of-ann,bob:key-of-bob",
        "allowed_origins": f"{LISTED}, https://two.example",
    }
    with client_of(weights, tmp_path_factory.mktemp("store"), **settings, **limits) as client:
        yield client


def preflight(client: TestClient, origin: str, **headers: str) -> Any:
    asked = {
        "access-control-request-method": "PUT",
        "access-control-request-headers": "authorization,content-type",
    }
    return client.options("/v1/sessions/x/classes/a", headers={"origin": origin, **asked, **headers})


def test_a_preflight_passes_without_a_key_for_listed_origins_alone(client: TestClient) -> None:
    passed = preflight(client, LISTED)
    assert passed.status_code == 200
    assert passed.headers["access-control-allow-origin"] == LISTED
    assert "PUT" in passed.headers["access-control-allow-methods"]
    assert "authorization" in passed.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in passed.headers
    for origin in (OTHER, "null", "https://app.example", "http://app.example:8443"):
        assert "access-control-allow-origin" not in preflight(client, origin).headers


def test_answers_and_errors_can_be_read_by_listed_origins_alone(client: TestClient) -> None:
    def ask(origin: str) -> list[Any]:
        page = {"origin": origin, "sec-fetch-site": "cross-site"}
        large = {**page, **KEY, "content-type": "application/json"}
        return [
            client.get("/v1/model", headers={**page, **KEY}),
            client.get("/v1/model", headers=page),
            client.post("/v1/sessions", content=b"x" * (2**16 + 1), headers=large),
            client.get("/v1/sessions/nope", headers={**page, **KEY}),
            client.get("/samples", headers=page),
        ]

    answers = ask(LISTED)
    while answers[-1].status_code != 429:
        answers.append(client.get("/v1/model", headers={"origin": LISTED, **bearer("key-of-bob")}))
    assert [answer.status_code for answer in answers[:5]] == [200, 401, 413, 404, 200]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == LISTED
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"x-request-id", "retry-after"} <= set(exposed.split(", "))
        assert "Origin" in answer.headers["vary"]
    assert not [answer for answer in ask(OTHER) if "access-control-allow-origin" in answer.headers]


def test_a_stream_is_opened_by_listed_origins_alone(client: TestClient) -> None:
    path = f"{new_session(client, headers=KEY)}/stream"
    with client.websocket_connect(path, headers={"origin": LISTED, **KEY}) as socket:
        socket.send_bytes(sample_bytes("anger", 4))
        assert socket.receive_json()["index"] == 0
    with client.websocket_connect(path, headers={"origin": OTHER, **KEY}) as socket:
        assert socket.receive()["code"] == 4403


def test_without_keys_a_listed_page_may_use_the_service_of_this_machine(
    weights: Path, tmp_path: Path
) -> None:
    with client_of(weights, tmp_path, allowed_origins=LISTED) as client:
        page = {"origin": LISTED, "sec-fetch-site": "cross-site"}
        path = new_session(client, headers=page)
        added = client.post(f"{path}/classes/a/examples", files=[sample("anger", 0)], headers=page)
        assert (added.status_code, added.headers["access-control-allow-origin"]) == (201, LISTED)
        with client.websocket_connect(f"{path}/stream", headers=page) as socket:
            socket.send_bytes(sample_bytes("anger", 4))
            assert socket.receive_json()["faces"][0]["predicted"] == "a"
        for headers in (
            {**page, "host": "rebound.example"},
            {**page, "origin": OTHER},
            {"sec-fetch-site": "cross-site"},
        ):
            assert_problem(client.post("/v1/sessions", headers=headers), 403, "forbidden_origin")


def test_a_star_allows_the_pages_of_every_origin(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, allowed_origins="*", api_keys="ann:key-of-ann") as client:
        assert preflight(client, OTHER).headers["access-control-allow-origin"] == "*"
        answer = client.post("/v1/sessions", headers={"origin": OTHER, **KEY})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (201, "*")
        path = f"/v1/sessions/{answer.json()['id']}/stream"
        with client.websocket_connect(path, headers={"origin": OTHER, **KEY}) as socket:
            socket.send_bytes(sample_bytes("anger", 4))
            assert socket.receive_json()["index"] == 0


def test_without_the_setting_no_origin_is_allowed(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, api_keys="ann:key-of-ann") as client:
        assert "access-control-allow-origin" not in preflight(client, LISTED).headers
        answer = client.get("/v1/model", headers={"origin": LISTED, **KEY})
        assert "access-control-allow-origin" not in answer.headers
