from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from app.api.admission import MAX_SMALL_BYTES, Admission
from app.api.errors import add_error_handlers

LIMITS: dict[str, Any] = {
    "max_requests": 2,
    "max_body_bytes": 1000,
    "max_body_bytes_in_flight": 1500,
    "body_idle_s": 0.2,
    "body_s": 5,
}


class Client:
    """One request, sent part by part to an application that echoes the length of its body."""

    def __init__(self, app: Admission, path: str = "/echo", *content_types: bytes, taken: bool = True):
        self._taken = taken
        self._parts: asyncio.Queue[Message] = asyncio.Queue()
        self._answered: list[Message] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", kind) for kind in content_types or (b"multipart/form-data",)],
            "state": {},
        }
        self._task = asyncio.ensure_future(app(scope, self._parts.get, self._send))

    async def _send(self, message: Message) -> None:
        if not self._taken:
            await asyncio.sleep(60)
        self._answered.append(message)

    async def send(self, count: int, *, more: bool = True) -> None:
        self._parts.put_nowait({"type": "http.request", "body": b"x" * count, "more_body": more})
        await asyncio.sleep(0.02)

    async def ended(self) -> None:
        await asyncio.wait_for(self._task, 5)

    async def answer(self) -> tuple[int, Any]:
        await self._task
        start, *bodies = self._answered
        return start["status"], json.loads(b"".join(body["body"] for body in bodies))

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self._answered[0]["headers"])


@pytest.fixture
def admitted() -> Admission:
    return admission()


def admission(**changes: Any) -> Admission:
    app = FastAPI()
    add_error_handlers(app)

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    app.post("/readyz")(echo)
    return Admission(app, **{"draining": asyncio.Event(), **LIMITS, **changes})


def problem(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["code"]


def test_a_body_within_the_limits_comes_through(admitted: Admission) -> None:
    async def use() -> None:
        client = Client(admitted)
        await client.send(400)
        await client.send(600, more=False)
        assert await client.answer() == (200, 1000)

    asyncio.run(use())


def test_a_body_without_a_declared_length_is_refused_once_it_is_too_large(admitted: Admission) -> None:
    async def use() -> None:
        client = Client(admitted)
        await client.send(600)
        await client.send(600)
        assert problem(await client.answer()) == (413, "body_too_large")

    asyncio.run(use())


def test_bodies_in_flight_are_bounded_together_and_room_becomes_free(admitted: Admission) -> None:
    async def use() -> None:
        first, second = Client(admitted), Client(admitted)
        await first.send(900)
        await second.send(900)
        assert problem(await second.answer()) == (429, "overloaded")
        assert second.headers[b"retry-after"] == b"1"
        await first.send(100, more=False)
        assert await first.answer() == (200, 1000)
        again = Client(admitted)
        await again.send(1000, more=False)
        assert await again.answer() == (200, 1000)

    asyncio.run(use())


def test_requests_in_flight_are_bounded_but_not_for_those_who_watch(admitted: Admission) -> None:
    async def use() -> None:
        waiting = [Client(admitted), Client(admitted)]
        await asyncio.sleep(0.02)
        assert problem(await Client(admitted).answer()) == (429, "overloaded")
        watching = Client(admitted, "/readyz")
        await watching.send(0, more=False)
        assert await watching.answer() == (200, 0)
        for client in waiting:
            await client.send(1, more=False)
            assert await client.answer() == (200, 1)

    asyncio.run(use())


def test_a_body_that_pauses_is_given_up(admitted: Admission) -> None:
    async def use() -> None:
        client = Client(admitted)
        await client.send(1)
        assert problem(await client.answer()) == (408, "request_timeout")

    asyncio.run(use())


def test_a_body_that_drips_is_given_up_too() -> None:
    async def use() -> None:
        client = Client(admission(body_s=0.3))
        for _ in range(20):
            await client.send(1)
        assert problem(await client.answer()) == (408, "request_timeout")

    asyncio.run(use())


@pytest.mark.parametrize(
    "content_types",
    [(b"application/json",), (b"application/x+json",), (b"application/JSON", b"multipart/form-data"), (b"",)],
)
def test_what_is_no_file_is_small(content_types: tuple[bytes, ...]) -> None:
    async def use() -> None:
        app = admission(max_body_bytes=10**6, max_body_bytes_in_flight=10**6)
        client = Client(app, "/echo", *content_types)
        await client.send(MAX_SMALL_BYTES + 1)
        assert problem(await client.answer()) == (413, "body_too_large")

    asyncio.run(use())


def test_an_answer_that_is_not_taken_is_given_up_and_leaves_its_place() -> None:
    async def use() -> None:
        app = admission(unread_s=0.1, max_requests=1)
        unread = Client(app, taken=False)
        await unread.send(1, more=False)
        await unread.ended()
        after = Client(app)
        await after.send(1, more=False)
        assert await after.answer() == (200, 1)

    asyncio.run(use())


def test_while_draining_connections_close_with_their_answer() -> None:
    async def use() -> None:
        draining = asyncio.Event()
        app = admission(draining=draining)
        for ends in (False, True):
            if ends:
                draining.set()
            client = Client(app)
            await client.send(1, more=False)
            assert await client.answer() == (200, 1)
            assert (client.headers.get(b"connection") == b"close") is ends

    asyncio.run(use())
