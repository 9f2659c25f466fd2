from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.cancel_on_disconnect import CancelOnDisconnect

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def run(application: Application, messages: list[Message], *, stay: bool) -> list[Message]:
    """What the application sends to a client that sends the messages, and then stays or disconnects."""
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


EMPTY: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
EMPTY_IN_PARTS: list[Message] = [{"type": "http.request", "body": b"", "more_body": True}, *EMPTY]


@pytest.mark.parametrize("body", [BODY, EMPTY])
def test_the_work_for_a_disconnected_client_is_cancelled(body: list[Message]) -> None:
    ends: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if body is BODY:
            await read(receive)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    assert run(application, body, stay=False) == []
    assert ends == ["cancelled"]


@pytest.mark.parametrize("stay", [True, False])
@pytest.mark.parametrize(("body", "expected"), [(BODY, b"ab"), (EMPTY, b""), (EMPTY_IN_PARTS, b"")])
def test_a_quick_response_reaches_its_client(body: list[Message], expected: bytes, stay: bool) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "response", "body": await read(receive)})

    assert run(application, body, stay=stay) == [{"type": "response", "body": expected}]


def test_an_exception_of_the_application_is_passed_on() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("fault")

    with pytest.raises(ValueError, match="fault"):
        run(application, BODY, stay=True)
