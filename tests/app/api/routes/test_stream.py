from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from csrn_client.schemas import StreamResult
from tests.support.api import bearer, client_of, new_session, sample, teach
from tests.support.samples import no_face, sample_bytes


def ask(socket: WebSocketTestSession, frame: bytes) -> Any:
    """The answer to a frame, after checking that it is as documented."""
    socket.send_bytes(frame)
    answer = socket.receive_json()
    assert StreamResult.model_validate(answer).model_dump(mode="json", exclude_unset=True) == answer
    return answer


def closed(socket: WebSocketTestSession) -> tuple[int, str | None]:
    """The close code and reason of a stream that the service closes."""
    with pytest.raises(WebSocketDisconnect) as raised:
        socket.receive_json()
    return raised.value.code, raised.value.reason


def closed_with(client: TestClient, path: str, **options: Any) -> tuple[int, str | None]:
    with client.websocket_connect(path, **options) as socket:
        return closed(socket)


def test_each_frame_is_scored_by_the_session_as_it_is_then(client: TestClient, session: str) -> None:
    with client.websocket_connect(f"{session}/stream") as socket:
        untaught = ask(socket, sample_bytes("anger", 4))
        assert (untaught["index"], untaught["error"], untaught["dropped"]) == (0, None, 0)
        (face,) = untaught["faces"]
        assert (face["scores"], face["predicted"], face["margin"]) == ([], None, None)
        teach(client, {"anger": 1, "happiness": 1}, session)
        taught = ask(socket, sample_bytes("anger", 4))
        assert {score["label"] for score in taught["faces"][0]["scores"]} == {"anger", "happiness"}
        assert taught["latency_ms"] > 0
        for label, left in (("happiness", ["anger"]), ("anger", [])):
            client.delete(f"{session}/classes/{label}")
            (face,) = ask(socket, sample_bytes("anger", 4))["faces"]
            assert [score["label"] for score in face["scores"]] == left
    teach(client, {"anger": 1}, session)
    (photo,) = client.post(f"{session}/classify", files=[sample("anger", 4)]).json()["results"][0]["faces"]
    assert face["box"] == pytest.approx(photo["box"], abs=4)


def test_a_frame_that_is_unreadable_or_shows_no_face_does_not_end_the_stream(
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
        results = [socket.receive_json()]
        while results[-1]["index"] < frames - 1:
            results.append(socket.receive_json())
    assert len(results) < frames
    assert sum(result["dropped"] for result in results) == frames - len(results)
    indices = [result["index"] for result in results]
    assert indices == sorted(indices)


def test_a_stream_is_closed_with_a_code_and_a_reason(client: TestClient, session: str) -> None:
    path = f"{session}/stream"
    assert closed_with(client, "/v1/sessions/nope/stream") == (4404, "session_not_found")
    other_site = {"headers": {"origin": "https://elsewhere.example"}}
    assert closed_with(client, path, **other_site) == (4403, "forbidden_origin")
    with client.websocket_connect(path, headers={"origin": "http://127.0.0.1"}) as socket:
        socket.send_text("{}")
        assert closed(socket) == (4415, "unsupported_media_type")
    with client.websocket_connect(path) as socket:
        assert ask(socket, sample_bytes("anger", 4))["index"] == 0
        client.delete(session)
        socket.send_bytes(sample_bytes("anger", 4))
        assert closed(socket) == (4404, "session_not_found")


def test_a_stream_without_frames_is_closed(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, stream_idle_s=0.5) as client:
        start = time.monotonic()
        assert closed_with(client, f"{new_session(client)}/stream") == (4408, "idle")
        assert time.monotonic() - start >= 0.5


def test_the_number_of_streams_is_limited_and_places_become_free(client: TestClient, session: str) -> None:
    path = f"{session}/stream"
    with client.websocket_connect(path) as one, client.websocket_connect(path) as other:
        for socket in (one, other):
            ask(socket, sample_bytes("anger", 4))
        assert closed_with(client, path) == (4429, "overloaded")
    with client.websocket_connect(path) as again:
        assert len(ask(again, sample_bytes("anger", 4))["faces"]) == 1


def test_a_key_has_a_limited_number_of_streams(weights: Path, tmp_path: Path) -> None:
    ann, bob = bearer("s"), bearer("t")
    with client_of(weights, tmp_path, api_keys="ann:s,bob:t", max_streams_per_key=1) as client:
        anns, bobs = (f"{new_session(client, headers=key)}/stream" for key in (ann, bob))
        with client.websocket_connect(anns, headers=ann) as socket:
            ask(socket, sample_bytes("anger", 4))
            assert closed_with(client, anns, headers=ann) == (4429, "overloaded")
            with client.websocket_connect(bobs, headers=bob) as other:
                ask(other, sample_bytes("anger", 4))


def test_a_stream_needs_the_key_of_its_session(weights: Path, tmp_path: Path) -> None:
    bob = bearer("t/+?")
    with client_of(weights, tmp_path, api_keys="ann:s,bob:t/+?") as client:
        path = f"{new_session(client, headers=bob)}/stream"
        key = base64.urlsafe_b64encode(b"t/+?").decode().rstrip("=")
        assert closed_with(client, path) == (4401, "unauthorized")
        assert closed_with(client, path, subprotocols=["csrn.v1", "csrn.key.!"]) == (4401, "unauthorized")
        assert closed_with(client, path, headers=bearer("s")) == (4404, "session_not_found")
        with client.websocket_connect(path, headers=bob) as socket:
            assert len(ask(socket, sample_bytes("anger", 4))["faces"]) == 1
            assert socket.accepted_subprotocol is None
        with client.websocket_connect(path, subprotocols=["csrn.v1", f"csrn.key.{key}"]) as socket:
            assert len(ask(socket, sample_bytes("anger", 4))["faces"]) == 1
            assert socket.accepted_subprotocol == "csrn.v1"
