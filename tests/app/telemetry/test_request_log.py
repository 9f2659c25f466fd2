from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from app.api.cancel_on_disconnect import CancelOnDisconnect
from app.telemetry.metrics import Metrics
from app.telemetry.request_log import RequestLog
from tests.support.api import client_of, image, new_session, state_of
from tests.support.log_lines import logged
from tests.support.samples import sample_bytes

MARK = "SECRETMARK"
MINE = {"X-Request-ID": "mine"}
STREAM = "/v1/sessions/{session_id}/stream"


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(weights, tmp_path_factory.mktemp("store"), max_body_bytes=2**17) as client:
        yield client


@pytest.mark.parametrize("sent", ["a", "Az09._-", "x" * 128])
def test_a_valid_request_id_is_kept(client: TestClient, sent: str) -> None:
    assert client.get("/livez", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "ä", 'a"b', "a/b", "{}", "a,b"])
def test_any_other_request_id_is_replaced(client: TestClient, sent: str) -> None:
    headers = {"X-Request-ID": sent.encode()}
    made = [client.get("/livez", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(name) == 32 and name.isalnum() for name in made)


def test_every_response_and_stream_has_the_request_id(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_of(client).store, "list_page", None)
    for response, status in (
        (client.get("/nowhere", headers=MINE), 404),
        (client.put("/v1/model", headers=MINE), 405),
        (client.post("/v1/classify", files=[image(b"x" * 2**17)], headers=MINE), 413),
        (client.post("/v1/sessions", json={"ttl_s": -1}, headers=MINE), 422),
        (client.get("/v1/sessions", headers=MINE), 500),
        (client.get("/page/page.js", headers=MINE), 200),
    ):
        assert (response.status_code, response.headers.get_list("x-request-id")) == (status, ["mine"])
    with client.websocket_connect("/v1/sessions/nope/stream", headers=MINE) as socket:
        assert (b"x-request-id", b"mine") in (socket.extra_headers or [])
        socket.receive()


def test_a_request_is_one_line_and_monitoring_requests_are_none(client: TestClient) -> None:
    with logged(logging.DEBUG) as log:
        for path in ("/livez", "/readyz", "/metrics"):
            client.get(path)
        client.post("/v1/sessions", json={"name": "x"}, headers=MINE)
    (line,) = log.lines
    assert line.pop("duration_ms") >= 0
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "csrn.requests",
        "message": "request",
        "request_id": "mine",
        "method": "POST",
        "route": "/v1/sessions",
        "status": 201,
        "key": "local",
    }


def test_a_fault_is_one_line_with_its_traceback_before_that_of_the_request(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_in_the_store(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(state_of(client).store, "list_page", fail_in_the_store)
    with logged() as log:
        client.get("/v1/sessions", headers=MINE)
    fault, request = log.lines
    assert (fault["level"], fault["error"]) == ("error", "RuntimeError")
    assert fault["traceback"].endswith("RuntimeError: no kernel image")
    assert "fail_in_the_store" in fault["traceback"]
    assert (request["level"], request["status"]) == ("warning", 500)
    assert {line["request_id"] for line in log.lines} == {"mine"}


@pytest.mark.parametrize(
    "place", ["app.inference.engine.Engine.encode_support", "model.classifier.Classifier.encode"]
)
def test_a_fault_that_quotes_the_request_hides_the_quote(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError(MARK)

    path = new_session(client)
    monkeypatch.setattr(place, fail)
    with logged(logging.DEBUG) as log:
        response = client.post(
            f"{path}/classes/{MARK}/examples",
            files=[image(sample_bytes("anger", 0), f"{MARK}.jpg")],
            data={"example_ids": [MARK]},
        )
    assert response.status_code == 500
    assert "KeyError" in log.text
    assert MARK not in log.text + response.text


def test_a_stream_is_one_line_with_the_reason_of_its_end(client: TestClient) -> None:
    with logged() as log:
        with client.websocket_connect("/v1/sessions/nope/stream", headers=MINE) as socket:
            assert socket.receive()["code"] == 4404
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/nowhere", headers=MINE):
            pass
    closed, refused = log.lines
    names = ("message", "route", "code", "reason", "key", "request_id")
    assert [closed[name] for name in names] == [
        "stream closed", STREAM, 4404, "session_not_found", "local", "mine",
    ]  # fmt: skip
    assert [refused[name] for name in names] == ["stream refused", "none", 1000, None, None, "mine"]


BODY: Message = {"type": "http.request", "body": b"1234", "more_body": False}
PART: Message = {"type": "http.request", "body": b"1234", "more_body": True}
GONE: Message = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("slow", "messages"), [(True, [BODY, GONE]), (True, [PART, GONE]), (False, [PART, GONE])]
)
def test_a_client_that_leaves_before_the_response_is_499(slow: bool, messages: list[Message]) -> None:
    app, waiting = FastAPI(), [*messages]

    @app.post("/{label}")
    async def answer(request: Request) -> None:
        while (await request.receive()).get("more_body"):
            pass
        if slow:
            await asyncio.sleep(10)

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    async def send(message: Message) -> None:
        pass

    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(RequestLog, count=Metrics().request_ended)
    headers = [(b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers, "query_string": b""}
    with logged() as log:
        asyncio.run(asyncio.wait_for(app(scope, receive, send), 5))
    (line,) = log.lines
    assert (line["status"], line["route"], line["level"]) == (499, "/{label}", "info")
