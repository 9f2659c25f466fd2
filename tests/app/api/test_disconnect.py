from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.disconnect import CancelOnDisconnect

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def run(application: Application, messages: list[Message], *, stay: bool) -> list[Message]:
    """What `application` sends to a client that says `messages`, and then stays or goes."""
    sent: list[Message] = []
    waiting = [*messages]

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        if stay:
            await asyncio.Event().wait()
        await asyncio.sleep(0.02)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    size = sum(len(message["body"]) for message in messages)
    scope = {"type": "http", "headers": [(b"content-length", str(size).encode())]}
    asyncio.run(asyncio.wait_for(CancelOnDisconnect(application)(scope, receive, send), 5))
    return sent


BODY: list[Message] = [
    {"type": "http.request", "body": b"a", "more_body": True},
    {"type": "http.request", "body": b"b", "more_body": False},
]


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


def test_the_work_for_a_client_that_has_gone_is_cancelled() -> None:
    ends: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    assert run(application, BODY, stay=False) == []
    assert ends == ["cancelled"]


def test_a_request_without_a_body_is_cancelled_though_its_route_reads_none() -> None:
    ends: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    assert run(application, [{"type": "http.request", "body": b"", "more_body": False}], stay=False) == []
    assert ends == ["cancelled"]


def test_an_empty_body_can_be_read() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "answer", "body": await read(receive)})

    empty: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    assert run(application, empty, stay=True) == [{"type": "answer", "body": b""}]


@pytest.mark.parametrize("stay", [True, False])
def test_a_quick_answer_reaches_its_client(stay: bool) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "answer", "body": await read(receive)})

    assert run(application, BODY, stay=stay) == [{"type": "answer", "body": b"ab"}]


def test_a_fault_of_the_application_is_passed_on() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("fault")

    with pytest.raises(ValueError, match="fault"):
        run(application, BODY, stay=True)
