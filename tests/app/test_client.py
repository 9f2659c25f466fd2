"""The retries of the client, against a stand-in for a service that is busy or away: a real one seldom is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from app.client import AsyncClient, Client, ServiceProblem, ServiceUnreachable

BUSY = {"type": "about:blank", "title": "Busy", "status": 429, "detail": "later", "code": "overloaded"}
AWAY = {**BUSY, "status": 503, "code": "not_ready"}
PAGE: dict[str, object] = {"sessions": [], "next_cursor": None}


class Answers(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Gives one answer after the other: a status with a body, or an error that is raised."""

    def __init__(self, *answers: tuple[int, object] | Exception, retry_after: str = "0") -> None:
        self._answers: Iterator[tuple[int, object] | Exception] = iter(answers)
        self._retry_after = retry_after
        self.count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        headers = {"retry-after": self._retry_after} if status in (429, 503) else {}
        return httpx.Response(status, content=json.dumps(body).encode(), headers=headers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def client(answers: Answers, monkeypatch: pytest.MonkeyPatch, **options: int) -> Client:
    made = Client(**options)  # type: ignore[arg-type]
    monkeypatch.setattr(made, "_http", httpx.Client(base_url="http://test", transport=answers))
    return made


def test_a_busy_service_is_asked_again_after_the_pause_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    answers = Answers((429, BUSY), (503, AWAY), (200, PAGE), retry_after="7")
    assert client(answers, monkeypatch).list_sessions().sessions == []
    assert pauses == [7, 7]


def test_a_service_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(*[(429, BUSY)] * 9)
    with pytest.raises(ServiceProblem) as raised:
        client(answers, monkeypatch, retries=3).list_sessions()
    assert (raised.value.code, answers.count) == ("overloaded", 4)


@pytest.mark.parametrize("fault", [(503, AWAY), httpx.ReadError("lost")])
def test_what_may_have_been_added_is_not_added_again(
    monkeypatch: pytest.MonkeyPatch, fault: tuple[int, object] | Exception
) -> None:
    answers = Answers(fault, (201, {}))
    with pytest.raises((ServiceProblem, ServiceUnreachable)):
        client(answers, monkeypatch).add_support("s", [("a", b"image")])
    assert answers.count == 1


def test_a_lost_read_and_a_refused_connection_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda pause_s: None)
    for fault in (httpx.ReadError("lost"), httpx.ConnectError("refused")):
        assert client(Answers(fault, (200, PAGE)), monkeypatch).list_sessions().next_cursor is None
    refused = Answers(
        httpx.ConnectError("refused"), (404, {**BUSY, "status": 404, "code": "session_not_found"})
    )
    with pytest.raises(ServiceProblem) as raised:
        client(refused, monkeypatch).add_support("s", [("a", b"image")])
    assert raised.value.code == "session_not_found"


def test_what_the_first_try_deleted_is_not_missed_by_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda pause_s: None)
    gone = (404, {**BUSY, "status": 404, "code": "session_not_found"})
    client(Answers(httpx.ReadError("lost"), gone), monkeypatch).delete_session("s")
    with pytest.raises(ServiceProblem):
        client(Answers(gone), monkeypatch).delete_session("s")


def test_what_is_no_address_is_unreachable() -> None:
    with pytest.raises(ServiceUnreachable):
        Client("http://host:port")


@pytest.mark.parametrize("answer", [(200, {"not": "a page"}), (502, "a proxy"), (404, {"detail": "no"})])
def test_an_answer_of_something_else_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int, object]
) -> None:
    with pytest.raises(ServiceUnreachable):
        client(Answers(answer), monkeypatch).list_sessions()


def test_the_async_client_retries_alike() -> None:
    async def use() -> None:
        async with AsyncClient() as client:
            answers = Answers((429, BUSY), httpx.ConnectError("refused"), (200, PAGE))
            client._http = httpx.AsyncClient(base_url="http://test", transport=answers)
            assert (await client.list_sessions()).sessions == []
            assert answers.count == 3

    asyncio.run(use())
