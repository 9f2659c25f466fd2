from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

import app.server
from app.server import (
    MAX_HEAD_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    DrainingServer,
    GuardedProtocol,
    listen,
)


class Impatient(GuardedProtocol):
    head_s = 0.3


class Served:
    """A server in this loop whose application answers once it is told to."""

    def __init__(self, *, drain_s: float = 0) -> None:
        self.draining, self.streams_ended = asyncio.Event(), asyncio.Event()
        self.streams_ended.set()
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self._socket = listen("127.0.0.1", 0)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._app, interface="asgi3", http=Impatient, lifespan="off", log_level="critical"
        )
        self.server = DrainingServer(
            config,
            draining=self.draining,
            drain_s=drain_s,
            grace_s=5,
            streams_ended=self._wait_for_streams,
        )
        # Signals go to the process that runs the tests.
        self.server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]

    async def _wait_for_streams(self) -> None:
        await self.streams_ended.wait()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.asked.set()
        if scope["path"] == "/slow":
            await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.ensure_future(self.server.serve(sockets=[self._socket]))
        while not self.server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield task
        finally:
            self.go_on.set()
            self.streams_ended.set()
            self.server.should_exit = True
            await task


async def connect(port: int, text: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    return reader, writer


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and all that comes until the connection closes."""
    received = await asyncio.wait_for(reader.read(), 5)
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def problem(answered: tuple[int, bytes]) -> tuple[int, Any]:
    return answered[0], json.loads(answered[1])["code"]


def test_what_is_in_flight_is_answered_and_what_is_new_refused() -> None:
    async def use() -> None:
        served = Served()
        async with served.running() as task:
            reader, _ = await connect(served.port, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await served.asked.wait()
            served.server.handle_exit(signal.SIGTERM, None)
            assert served.draining.is_set()
            while True:
                try:
                    (await connect(served.port))[1].close()
                    await asyncio.sleep(0.01)
                except ConnectionRefusedError:
                    break
            assert not task.done()
            served.go_on.set()
            assert await answer(reader) == (200, b"ok")
            await asyncio.wait_for(task, 5)

    asyncio.run(use())


def test_it_serves_on_until_load_balancers_have_noticed() -> None:
    async def use() -> None:
        served = Served(drain_s=0.5)
        async with served.running() as task:
            served.server.handle_exit(signal.SIGTERM, None)
            await asyncio.sleep(0.2)
            reader, _ = await connect(served.port, "GET / HTTP/1.0\r\n\r\n")
            assert await answer(reader) == (200, b"ok")
            await asyncio.wait_for(task, 5)

    asyncio.run(use())


def test_it_waits_for_streams_to_end_and_not_after_a_second_signal() -> None:
    async def use(signals: int) -> bool:
        served = Served()
        served.streams_ended.clear()
        async with served.running() as task:
            for _ in range(signals):
                served.server.handle_exit(signal.SIGTERM, None)
            await asyncio.sleep(0.5)
            return task.done()

    assert asyncio.run(use(1)) is False
    assert asyncio.run(use(2)) is True


def test_headers_must_arrive_in_time() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            reader, _ = await connect(served.port, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert problem(await answer(reader)) == (408, "request_timeout")
            reader, _ = await connect(served.port)
            assert await asyncio.wait_for(reader.read(), 5) == b""

    asyncio.run(use())


def test_headers_that_drip_are_given_up() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            reader, writer = await connect(served.port, "GET / HTTP/1.1\r\nX-Slow: ")
            answered = asyncio.ensure_future(answer(reader))
            while not answered.done():
                writer.write(b"x")
                await asyncio.sleep(0.05)
            assert problem(await answered) == (408, "request_timeout")

    asyncio.run(use())


def test_a_head_that_does_not_end_is_refused() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            reader, _ = await connect(served.port, "GET / HTTP/1.1\r\nX-Long: " + "x" * MAX_HEAD_BYTES)
            assert problem(await answer(reader)) == (431, "headers_too_large")

    asyncio.run(use())


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"


@pytest.mark.parametrize("kind", ["", UPGRADE], ids=["http", "websocket"])
@pytest.mark.parametrize(
    "headers",
    ["X-Long: " + "x" * MAX_HEADER_BYTES + "\r\n", "X-Many: x\r\n" * (MAX_HEADERS + 1)],
    ids=["long", "many"],
)
def test_headers_beyond_the_limits_are_refused_at_once(kind: str, headers: str) -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            reader, _ = await connect(served.port, f"GET / HTTP/1.1\r\nHost: x\r\n{kind}{headers}\r\n")
            assert problem(await answer(reader)) == (431, "headers_too_large")
            assert not served.asked.is_set()

    asyncio.run(use())


def test_a_refused_head_does_not_take_the_answer_of_the_request_before() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            first = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
            second = f"GET / HTTP/1.1\r\nX-Long: {'x' * MAX_HEADER_BYTES}\r\n\r\n"
            reader, _ = await connect(served.port, first + second)
            await served.asked.wait()
            served.go_on.set()
            assert await answer(reader) == (200, b"ok")

    asyncio.run(use())


def test_a_head_that_begins_behind_a_long_body_is_no_long_head() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            count = 3 * MAX_HEAD_BYTES
            post = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {count}\r\n\r\n{'x' * count}"
            reader, writer = await connect(served.port, post + "GET / HTTP/1.1\r\nHo")
            await asyncio.sleep(0.1)
            writer.write(b"st: x\r\nConnection: close\r\n\r\n")
            received = await asyncio.wait_for(reader.read(), 5)
            assert received.count(b"200 OK") == 2

    asyncio.run(use())


@pytest.mark.parametrize("trailer", ["{}: x\r\n", "xxxxxxxx"], ids=["many", "endless"])
def test_trailers_are_neither_kept_nor_taken_for_ever(trailer: str) -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            head = "POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
            reader, writer = await connect(served.port, head)
            await served.asked.wait()
            with contextlib.suppress(ConnectionError):
                for number in range(40):
                    writer.write("".join(trailer.format(f"t{number}-{n}") for n in range(500)).encode())
                    await writer.drain()
                    await asyncio.sleep(0.005)
            assert len(served.headers) == 2
            served.go_on.set()
            with contextlib.suppress(ConnectionError):
                assert (await answer(reader))[0] == 200

    asyncio.run(use())


def test_there_are_only_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.server, "MAX_CONNECTIONS", 2)

    async def use() -> None:
        served = Served()
        async with served.running():
            kept = [await connect(served.port) for _ in range(2)]
            reader, writer = await connect(served.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            kept[0][1].close()
            await asyncio.sleep(0.05)
            reader, _ = await connect(served.port, "GET / HTTP/1.0\r\n\r\n")
            assert await answer(reader) == (200, b"ok")

    asyncio.run(use())


def test_a_body_that_was_answered_before_its_end_may_still_be_sent() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            count = 8 * MAX_HEAD_BYTES
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {count}\r\n\r\n"
            reader, writer = await connect(served.port, head)
            await served.asked.wait()
            for _ in range(8):
                writer.write(b"x" * MAX_HEAD_BYTES)
                await asyncio.sleep(2 * Impatient.head_s / 8)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await answer(reader))[1].count(b"200 OK") == 1

    asyncio.run(use())


def test_what_is_not_http_is_answered_with_a_problem() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            reader, _ = await connect(served.port, "hello there\r\n\r\n")
            assert problem(await answer(reader)) == (400, "invalid_request")

    asyncio.run(use())


def test_an_answer_that_takes_longer_than_headers_may_is_waited_for() -> None:
    async def use() -> None:
        served = Served()
        async with served.running():
            # The second request waits behind the first, whose end must not count as its beginning.
            first, second = (f"GET {path} HTTP/1.1\r\nHost: x\r\n" for path in ("/", "/slow"))
            reader, _ = await connect(served.port, f"{first}\r\n{second}Connection: close\r\n\r\n")
            await asyncio.sleep(2 * Impatient.head_s)
            served.go_on.set()
            assert (await answer(reader))[1].endswith(b"ok")

    asyncio.run(use())
