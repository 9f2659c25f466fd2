"""Retries and errors of the client, against a transport that stands in for a busy or unreachable service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from csrn_client import AsyncClient, Client, ServiceProblem, ServiceUnreachable, UnexpectedResponse

BUSY = {"type": "about:blank", "title": "Busy", "status": 429, "detail": "later", "code": "overloaded"}
NOT_READY = {**BUSY, "status": 503, "code": "not_ready"}
NOT_FOUND = {**BUSY, "status": 404, "code": "session_not_found"}
PAGE: dict[str, object] = {"sessions": [], "next_cursor": None}
Answer = tuple[int, object] | Exception


class Answers(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Gives one answer after the other: a status with a body, or an error that is raised."""

    def __init__(self, *answers: Answer, retry_after: str = "0") -> None:
        self._answers: Iterator[Answer] = iter(answers)
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


@pytest.fixture
def pauses_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of the client, which it does not really make."""
    pauses_s: list[float] = []
    monkeypatch.setattr("time.sleep", pauses_s.append)
    return pauses_s


def client_of(answers: Answers, *, retries: int = 5) -> Client:
    client = Client(retries=retries)
    client._http = httpx.Client(base_url="http://test", transport=answers)
    return client


def test_a_busy_service_is_asked_again_after_the_pause_it_asks_for(pauses_s: list[float]) -> None:
    answers = Answers((429, BUSY), (503, NOT_READY), (200, PAGE), retry_after="7")
    assert client_of(answers).list_sessions().sessions == []
    assert pauses_s == [7, 7]


def test_no_pause_is_longer_than_half_a_minute(pauses_s: list[float]) -> None:
    client_of(Answers((429, BUSY), (200, PAGE), retry_after="3600")).list_sessions()
    assert pauses_s == [30]


def test_the_number_of_retries_is_limited(pauses_s: list[float]) -> None:
    answers = Answers(*[(429, BUSY)] * 9)
    with pytest.raises(ServiceProblem, match="Busy: later") as raised:
        client_of(answers, retries=3).list_sessions()
    assert (raised.value.code, answers.count, len(pauses_s)) == ("overloaded", 4, 3)


@pytest.mark.parametrize("fault", [(503, NOT_READY), httpx.ReadError("lost")])
def test_images_that_may_have_been_added_are_not_sent_again(fault: Answer) -> None:
    answers = Answers(fault, (201, {}))
    with pytest.raises((ServiceProblem, ServiceUnreachable)):
        client_of(answers).add_support("s", [("a", b"image")])
    assert answers.count == 1


@pytest.mark.parametrize("error", [httpx.ReadError("lost"), httpx.ConnectError("refused")])
@pytest.mark.usefixtures("pauses_s")
def test_a_request_that_only_reads_is_sent_again_after_any_error(error: Exception) -> None:
    assert client_of(Answers(error, (200, PAGE))).list_sessions().next_cursor is None


@pytest.mark.usefixtures("pauses_s")
def test_images_are_sent_again_if_no_connection_was_made() -> None:
    answers = Answers(httpx.ConnectError("refused"), (404, NOT_FOUND))
    with pytest.raises(ServiceProblem) as raised:
        client_of(answers).add_support("s", [("a", b"image")])
    assert (raised.value.code, answers.count) == ("session_not_found", 2)


@pytest.mark.usefixtures("pauses_s")
def test_a_repeated_delete_succeeds_if_the_first_attempt_deleted_the_session() -> None:
    client_of(Answers(httpx.ReadError("lost"), (404, NOT_FOUND))).delete_session("s")
    with pytest.raises(ServiceProblem):
        client_of(Answers((404, NOT_FOUND))).delete_session("s")


@pytest.mark.parametrize("answer", [(200, {"not": "a page"}), (502, "a proxy"), (404, {"detail": "no"})])
def test_a_response_of_another_server_is_unexpected(answer: Answer) -> None:
    with pytest.raises(UnexpectedResponse, match="http://test/v1/sessions"):
        client_of(Answers(answer)).list_sessions()


def test_the_async_client_retries_alike() -> None:
    async def ask() -> None:
        async with AsyncClient() as client:
            answers = Answers((429, BUSY), httpx.ConnectError("refused"), (200, PAGE))
            client._http = httpx.AsyncClient(base_url="http://test", transport=answers)
            assert (await client.list_sessions()).sessions == []
            assert answers.count == 3

    asyncio.run(ask())
