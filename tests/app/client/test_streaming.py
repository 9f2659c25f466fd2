"""Streams that fail, with small servers in place of the service."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from websockets.sync.server import ServerConnection, serve

from csrn_client import (
    AsyncClient,
    Client,
    ClientError,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedResponse,
)
from csrn_client.messages import session_path
from csrn_client.streaming import stream_url

RESULT = (
    '{"index": 0, "filename": null, "faces": [], "error": null, "unknown_below": null, "dropped": 0, '
    '"latency_ms": 1.0}'
)


@contextmanager
def websocket_server(answer: Callable[[ServerConnection], None]) -> Iterator[str]:
    """The URL of a server that treats each WebSocket as told."""
    with serve(answer, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


@contextmanager
def web_server(status: int, content: bytes) -> Iterator[str]:
    """The URL of a server that gives one answer to every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def failure(url: str) -> ClientError:
    """The error of a stream with two frames, which is the same for both clients."""

    async def use() -> None:
        async with AsyncClient(url) as client:
            async for _ in client.stream("s", [b"1", b"2"]):
                pass

    with pytest.raises(ClientError) as raised:
        list(Client(url).stream("s", [b"1", b"2"]))
    with pytest.raises(ClientError) as raised_async:
        asyncio.run(use())
    assert type(raised.value) is type(raised_async.value)
    return raised.value


def one_result_then(close: Callable[[ServerConnection], None]) -> Callable[[ServerConnection], None]:
    def answer(socket: ServerConnection) -> None:
        socket.recv()
        socket.send(RESULT)
        socket.recv()
        close(socket)

    return answer


@pytest.mark.parametrize(
    "close",
    [
        lambda socket: socket.close(1012, "restart"),
        lambda socket: socket.close(),
        lambda socket: socket.socket.close(),
    ],
    ids=["the service shuts down", "it closes normally", "the network fails"],
)
def test_a_stream_that_ends_early_is_a_lost_connection(close: Callable[[ServerConnection], None]) -> None:
    with websocket_server(one_result_then(close)) as url:
        error = failure(url)
    assert isinstance(error, ServiceUnreachable)
    assert str(error).startswith(f"lost the connection to ws{url[4:]}/v1/sessions/s/stream: ")


@pytest.mark.parametrize(
    ("closed", "code"), [((4429, "overloaded"), "overloaded"), ((1009, ""), "body_too_large")]
)
def test_an_error_that_closes_a_stream_has_its_code(closed: tuple[int, str], code: str) -> None:
    with websocket_server(one_result_then(lambda socket: socket.close(*closed))) as url:
        error = failure(url)
    assert isinstance(error, ServiceProblem)
    assert error.code == code


def test_a_message_that_is_no_result_is_unexpected() -> None:
    def answer(socket: ServerConnection) -> None:
        socket.recv()
        socket.send("{}")
        socket.recv()

    with websocket_server(answer) as url:
        assert isinstance(failure(url), UnexpectedResponse)


def test_a_server_that_opens_no_stream_is_distinguished_from_no_server() -> None:
    with web_server(404, b"<html>") as url:
        error = failure(url)
    assert isinstance(error, UnexpectedResponse)
    assert "/v1/sessions/s/stream answered 404" in str(error)
    problem = b'{"title": "Busy", "status": 429, "detail": "later", "code": "overloaded"}'
    with web_server(429, problem) as url:
        error = failure(url)
    assert isinstance(error, ServiceProblem)
    assert error.code == "overloaded"
    error = failure("http://127.0.0.1:9")
    assert isinstance(error, ServiceUnreachable)
    assert str(error).startswith("cannot connect to ws://127.0.0.1:9/v1/sessions/s/stream: ")


@pytest.mark.parametrize(
    ("service", "stream"),
    [
        ("http://host:8000", "ws://host:8000/v1/sessions/a%20b/stream?top_k=2"),
        ("https://host/faces/", "wss://host/faces/v1/sessions/a%20b/stream?top_k=2"),
    ],
)
def test_a_stream_has_the_address_of_its_service(service: str, stream: str) -> None:
    path = session_path("a b", "stream")
    assert str(stream_url(httpx.URL(service), path, {"top_k": 2})) == stream
