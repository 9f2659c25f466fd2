"""Request ids, and what the middleware makes of answers that never come."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from app.api.disconnect import CancelOnDisconnect
from app.main import create_app
from app.telemetry.metrics import Metrics
from app.telemetry.requests import Requests
from app.telemetry.routes import RouteTemplates
from tests.app.telemetry.log_lines import LogLines
from tests.support.api import LOCAL, image, settings
from tests.support.samples import sample_bytes

MULTIPART = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(settings(weights, tmp_path_factory.mktemp("store"), max_body_bytes=1000))
    with TestClient(app, headers=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("sent", ["a", "Az09._-", "x" * 128])
def test_an_id_that_is_sent_is_kept(client: TestClient, sent: str) -> None:
    assert client.get("/livez", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 129, "a b", "a\tb", "ä", 'a"b', "a/b", "{}", "a,b"])
def test_else_a_new_one_is_made(client: TestClient, sent: str | None) -> None:
    headers = {} if sent is None else {"X-Request-ID": sent.encode()}
    made = [client.get("/livez", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(name) == 32 and name.isalnum() for name in made)


def test_every_answer_has_one(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(client.app.state.store, "list_page", fail)  # type: ignore[attr-defined]
    headers, path = {"X-Request-ID": "mine"}, "/v1/sessions/nope"
    for response, status in (
        (client.get("/nowhere", headers=headers), 404),
        (client.put("/v1/model", headers=headers), 405),
        (client.post(f"{path}/classify", files=[image(b"x" * 2000)], headers=headers), 413),
        (client.post("/v1/classify", content=iter([b"x" * 2000]), headers={**headers, **MULTIPART}), 413),
        (client.post(f"{path}/classify", json={}, headers=headers), 415),
        (client.post("/v1/sessions", json={"ttl_s": -1}, headers=headers), 422),
        (client.get("/v1/sessions", headers=headers), 500),
        (client.get("/page/view.js", headers=headers), 200),
    ):
        assert (response.status_code, response.headers.get_list("x-request-id")) == (status, ["mine"])
    with client.websocket_connect(f"{path}/stream", headers=headers) as socket:
        assert (b"x-request-id", b"mine") in (socket.extra_headers or [])


def test_a_fault_is_one_line_with_its_traceback_and_the_requests_id(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_in_the_store(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(client.app.state.store, "list_page", fail_in_the_store)  # type: ignore[attr-defined]
    with LogLines() as log:
        client.get("/v1/sessions", headers={"X-Request-ID": "mine"})
    fault, request = log.lines
    assert (fault["level"], fault["error"]) == ("error", "RuntimeError")
    assert fault["traceback"].endswith("RuntimeError: no kernel image")
    assert "fail_in_the_store" in fault["traceback"]
    assert (request["level"], request["status"]) == ("warning", 500)
    assert {line["request_id"] for line in log.lines} == {"mine"}


@pytest.mark.parametrize("place", ["the route", "the device thread"])
def test_a_fault_that_quotes_what_was_sent_tells_nobody(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    app, mark = create_app(settings(weights, tmp_path, api_keys="ann:key-SECRETMARK")), "SECRETMARK"
    with TestClient(
        app, headers={"Authorization": "Bearer key-SECRETMARK"}, raise_server_exceptions=False
    ) as client:
        path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]

        def fail(*_: object, **__: object) -> None:
            raise KeyError(f"label-{mark}")

        if place == "the route":
            monkeypatch.setattr(app.state.engine, "encode_support", fail)
        else:
            monkeypatch.setattr(app.state.engine._device, "_run_batch", fail)
        with LogLines(logging.DEBUG) as log:
            response = client.post(
                f"{path}/classes/label-{mark}/examples",
                files=[image(sample_bytes("anger", 0), f"{mark}.jpg")],
                data={"example_ids": [mark]},
            )
    assert response.status_code == 500
    assert "KeyError" in log.text
    assert mark not in log.text
    assert mark not in response.text


def test_a_request_is_one_line_and_health_checks_are_none(client: TestClient) -> None:
    with LogLines() as log:
        client.get("/livez")
        client.get("/readyz")
        client.get("/metrics")
        client.post("/v1/sessions", json={"name": "x"})
    (line,) = log.lines
    assert line["duration_ms"] >= 0
    told = {name: line[name] for name in ("level", "message", "method", "route", "status", "bytes_in", "key")}
    assert told == {
        "level": "info",
        "message": "request",
        "method": "POST",
        "route": "/v1/sessions",
        "status": 201,
        "bytes_in": len(json.dumps({"name": "x"}, separators=(",", ":"))),
        "key": "local",
    }
    with LogLines(logging.DEBUG) as log:
        client.get("/livez")
    assert [(line["level"], line["route"]) for line in log.lines] == [("debug", "/livez")]


def test_a_stream_is_told_when_it_opens_and_why_it_closes(client: TestClient) -> None:
    with (
        LogLines() as log,
        client.websocket_connect("/v1/sessions/nope/stream", headers={"X-Request-ID": "mine"}) as socket,
    ):
        assert socket.receive()["code"] == 4404
    opened, closed = log.lines
    assert opened["message"] == "stream opened"
    assert (closed["message"], closed["code"], closed["reason"]) == (
        "stream closed",
        4404,
        "session_not_found",
    )
    assert {line["route"] for line in log.lines} == {"/v1/sessions/{session_id}/stream"}
    assert {line["request_id"] for line in log.lines} == {"mine"}


def run(application: Any, messages: list[Message]) -> tuple[Metrics, dict[str, Any]]:
    """What is told of a request whose client says `messages`, the last of them again and again."""
    metrics, waiting = Metrics(), [*messages]

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    async def send(message: Message) -> None:
        pass

    watched = Requests(application, metrics=metrics, tracing=None, templates=RouteTemplates([]))
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"content-length", b"9")]}
    with LogLines() as log:
        asyncio.run(asyncio.wait_for(watched(scope, receive, send), 5))
    (line,) = log.lines
    return metrics, line


BODY: Message = {"type": "http.request", "body": b"123456789", "more_body": False}
PART: Message = {"type": "http.request", "body": b"1234", "more_body": True}
GONE: Message = {"type": "http.disconnect"}


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(10)


async def answers_whoever_is_there(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 422, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("application", "messages", "bytes_in"),
    [
        (CancelOnDisconnect(slow), [BODY, GONE], 9),
        (CancelOnDisconnect(slow), [PART, GONE], 4),
        (answers_whoever_is_there, [PART, GONE], 4),
    ],
)
def test_a_client_that_went_away_before_the_answer_is_499(
    application: Any, messages: list[Message], bytes_in: int
) -> None:
    metrics, line = run(application, messages)
    assert (line["status"], line["bytes_in"], line["level"]) == (499, bytes_in, "info")
    labels = {"method": "POST", "route": "unknown", "status": "499"}
    assert metrics.registry.get_sample_value("csrn_requests_total", labels) == 1
    assert metrics.requests_in_flight == 0
