from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from app.main import create_app
from tests.support.api import LOCAL, sample, settings
from tests.support.samples import no_face, sample_bytes


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("store")
    app = create_app(settings(weights, folder, max_streams=2))
    with TestClient(app, headers=LOCAL) as client:
        yield client


@pytest.fixture
def session(client: TestClient) -> str:
    session_id: str = client.post("/v1/sessions").json()["id"]
    return f"/v1/sessions/{session_id}"


def ask(socket: WebSocketTestSession, frame: bytes) -> dict[str, Any]:
    socket.send_bytes(frame)
    answer: dict[str, Any] = socket.receive_json()
    return answer


def closed_with(client: TestClient, path: str, **options: Any) -> tuple[int, str | None]:
    with client.websocket_connect(path, **options) as socket, pytest.raises(WebSocketDisconnect) as raised:
        socket.receive_json()
    return raised.value.code, raised.value.reason


def test_each_frame_is_answered_by_the_session_as_it_is_then(client: TestClient, session: str) -> None:
    with client.websocket_connect(f"{session}/stream") as socket:
        untaught = ask(socket, sample_bytes("anger", 4))
        assert (untaught["index"], untaught["error"], untaught["dropped"]) == (0, None, 0)
        (face,) = untaught["faces"]
        assert (face["scores"], face["predicted"], face["margin"]) == ([], None, None)
        client.post(f"{session}/classes/anger/examples", files=[sample("anger", 0)])
        client.post(f"{session}/classes/joy/examples", files=[sample("happiness", 0)])
        taught = ask(socket, sample_bytes("anger", 4))
        assert {score["label"] for score in taught["faces"][0]["scores"]} == {"anger", "joy"}
        assert taught["latency_ms"] > 0
        client.delete(f"{session}/classes/joy")
        assert [score["label"] for score in ask(socket, sample_bytes("anger", 5))["faces"][0]["scores"]] == [
            "anger"
        ]
    posted = client.post(f"{session}/classify", files=[sample("anger", 4)]).json()["results"][0]["faces"][0]
    for side, value in posted["box"].items():
        assert face["box"][side] == pytest.approx(value, abs=4), "tracking finds the face where a photo's is"


def test_what_cannot_be_read_or_shows_no_face_does_not_end_the_stream(
    client: TestClient, session: str
) -> None:
    with client.websocket_connect(f"{session}/stream") as socket:
        assert ask(socket, b"no image")["error"]["code"] == "image_unreadable"
        assert ask(socket, no_face())["faces"] == []
        assert len(ask(socket, sample_bytes("anger", 4))["faces"]) == 1


def test_stale_frames_are_dropped_and_counted(client: TestClient, session: str) -> None:
    with client.websocket_connect(f"{session}/stream") as socket:
        frames = 40
        for _ in range(frames):
            socket.send_bytes(sample_bytes("anger", 4))
        answers: list[dict[str, Any]] = []
        while not answers or answers[-1]["index"] < frames - 1:
            answers.append(socket.receive_json())
    assert len(answers) < frames
    assert sum(answer["dropped"] for answer in answers) == frames - len(answers)
    indices = [answer["index"] for answer in answers]
    assert indices == sorted(indices)


def test_a_stream_is_closed_with_a_reason(client: TestClient, session: str) -> None:
    path = f"{session}/stream"
    assert closed_with(client, "/v1/sessions/nope/stream") == (4404, "session_not_found")
    other_site = {"headers": {"origin": "https://elsewhere.example"}}
    assert closed_with(client, path, **other_site) == (4403, "forbidden_origin")
    with client.websocket_connect(path, headers={"origin": "http://127.0.0.1"}) as socket:
        socket.send_text("{}")
        with pytest.raises(WebSocketDisconnect) as raised:
            socket.receive_json()
        assert raised.value.code == 1003
    with client.websocket_connect(path) as socket:
        assert ask(socket, sample_bytes("anger", 4))["index"] == 0
        client.delete(session)
        socket.send_bytes(sample_bytes("anger", 4))
        with pytest.raises(WebSocketDisconnect) as raised:
            socket.receive_json()
        assert raised.value.code == 4404


def test_a_stream_without_frames_is_closed(weights: Path, tmp_path: Path) -> None:
    with TestClient(create_app(settings(weights, tmp_path, stream_idle_s=0.5)), headers=LOCAL) as client:
        path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"] + "/stream"
        start = time.monotonic()
        assert closed_with(client, path) == (4408, "idle")
        assert time.monotonic() - start >= 0.5


def test_a_stream_whose_last_example_goes_answers_without_scores(client: TestClient, session: str) -> None:
    client.post(f"{session}/classes/anger/examples", files=[sample("anger", 0)])
    with client.websocket_connect(f"{session}/stream") as socket:
        assert ask(socket, sample_bytes("anger", 4))["faces"][0]["scores"] != []
        client.delete(f"{session}/classes/anger")
        assert ask(socket, sample_bytes("anger", 4))["faces"][0]["scores"] == []


def test_there_are_only_so_many_streams_at_once_and_places_become_free(
    client: TestClient, session: str
) -> None:
    path = f"{session}/stream"
    with client.websocket_connect(path) as one, client.websocket_connect(path) as other:
        for socket in (one, other):
            ask(socket, sample_bytes("anger", 4))
        assert closed_with(client, path) == (4429, "overloaded")
    with client.websocket_connect(path) as again:
        assert len(ask(again, sample_bytes("anger", 4))["faces"]) == 1


def test_a_key_has_only_so_many_streams(weights: Path, tmp_path: Path) -> None:
    app = create_app(settings(weights, tmp_path, api_keys="ann:s,bob:t", max_streams_per_key=1))
    with TestClient(app) as client:
        ann, bob = ({"Authorization": f"Bearer {key}"} for key in "st")
        paths = [
            "/v1/sessions/" + client.post("/v1/sessions", headers=key).json()["id"] + "/stream"
            for key in (ann, bob)
        ]
        with client.websocket_connect(paths[0], headers=ann) as socket:
            ask(socket, sample_bytes("anger", 4))
            assert closed_with(client, paths[0], headers=ann) == (4429, "overloaded")
            with client.websocket_connect(paths[1], headers=bob) as other:
                ask(other, sample_bytes("anger", 4))


def test_a_stream_needs_its_sessions_key(weights: Path, tmp_path: Path) -> None:
    with TestClient(
        create_app(settings(weights, tmp_path, api_keys="ann:s,bob:t/+?")), headers=LOCAL
    ) as client:
        bob = {"Authorization": "Bearer t/+?"}
        path = "/v1/sessions/" + client.post("/v1/sessions", headers=bob).json()["id"] + "/stream"
        key = base64.urlsafe_b64encode(b"t/+?").decode().rstrip("=")
        assert closed_with(client, path) == (4401, "unauthorized")
        assert closed_with(client, path, subprotocols=["csrn.v1", "csrn.key.!"]) == (4401, "unauthorized")
        assert closed_with(client, path, headers={"Authorization": "Bearer s"}) == (4404, "session_not_found")
        options: list[dict[str, Any]] = [
            {"headers": bob},
            {"subprotocols": ["csrn.v1", f"csrn.key.{key}"]},
        ]
        for option in options:
            with client.websocket_connect(path, **option) as socket:
                assert len(ask(socket, sample_bytes("anger", 4))["faces"]) == 1
                assert socket.accepted_subprotocol == ("csrn.v1" if "subprotocols" in option else None)
