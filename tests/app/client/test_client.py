"""Retries and errors of the client, with a transport in place of a busy or unreachable service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from csrn_client import AsyncClient, Client, ServiceProblem, ServiceUnreachable, UnexpectedResponse

BUSY = {"type": "about:blank", "title": "Busy", "status": 429, "detail": "later", "code": "overloaded"}
NOT_READY = {**BUSY, "status": 503, "code": "not_ready"}
NOT_FOUND = {**BUSY, "status": 404, "code": "session_not_found"}
PAGE: dict[str, object] = {"sessions": [], "next_cursor": None}
Answer = tuple[int, object] | Exception


class Answers(httpx.MockTransport):
    """Gives one answer after the other: a status with a body, or an error that is raised."""

    def __init__(self, *answers: Answer, retry_after: str = "0") -> None:
        self._answers, self._headers = iter(answers), {"retry-after": retry_after}
        self.count = 0
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        headers = self._headers if answer[0] in (429, 503) else {}
        return httpx.Response(answer[0], content=json.dumps(answer[1]), headers=headers)


@pytest.fixture(autouse=True)
def pauses_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of the client, which do not take any time."""
    pauses_s: list[float] = []
    monkeypatch.setattr("time.sleep", pauses_s.append)
    return pauses_s


def test_the_client_waits_as_long_as_a_busy_service_asks_for(pauses_s: list[float]) -> None:
    answers = Answers((429, BUSY), (503, NOT_READY), (200, PAGE), retry_after="7")
    assert Client(transport=answers).list_sessions().sessions == []
    assert pauses_s == [7, 7]


def test_no_pause_is_longer_than_half_a_minute(pauses_s: list[float]) -> None:
    Client(transport=Answers((429, BUSY), (200, PAGE), retry_after="3600")).list_sessions()
    assert pauses_s == [30]


def test_the_number_of_retries_is_limited(pauses_s: list[float]) -> None:
    answers = Answers(*[(429, BUSY)] * 9)
    with pytest.raises(ServiceProblem, match="Busy: later") as raised:
        Client(retries=3, transport=answers).list_sessions()
    assert (raised.value.code, answers.count, len(pauses_s)) == ("overloaded", 4, 3)


def test_a_problem_without_details_is_said_once() -> None:
    with pytest.raises(ServiceProblem, match=r"^Busy$"):
        Client(retries=0, transport=Answers((429, {**BUSY, "detail": "Busy"}))).list_sessions()


@pytest.mark.parametrize("fault", [(503, NOT_READY), httpx.ReadError("lost")])
def test_images_that_may_have_been_added_are_not_sent_again(fault: Answer) -> None:
    answers = Answers(fault, (201, {}))
    with pytest.raises((ServiceProblem, ServiceUnreachable)):
        Client(transport=answers).add_support("s", [("a", b"image")])
    assert answers.count == 1


@pytest.mark.parametrize("error", [httpx.ReadError("lost"), httpx.ConnectError("refused")])
def test_a_request_that_only_reads_is_sent_again_after_any_error(error: Exception) -> None:
    assert Client(transport=Answers(error, (200, PAGE))).list_sessions().next_cursor is None


def test_a_refused_connection_fails_within_a_second_and_names_the_url(pauses_s: list[float]) -> None:
    answers = Answers(*[httpx.ConnectError("refused")] * 9)
    with pytest.raises(ServiceUnreachable, match=r"cannot connect to http://test/faces/v1/model: refused"):
        Client("http://ann:secret@test/faces", transport=answers).get_model()
    assert sum(pauses_s) < 1


def test_a_refused_connection_is_tried_again_as_often_as_the_user_wants(pauses_s: list[float]) -> None:
    answers = Answers(*[httpx.ConnectError("refused")] * 4, (200, PAGE))
    assert Client(transport=answers, retries=4).list_sessions().sessions == []
    with pytest.raises(ServiceUnreachable):
        Client(transport=Answers(httpx.ConnectError("refused")), retries=0).list_sessions()
    assert len(pauses_s) == 4


def test_each_retry_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(httpx.ConnectError("refused"), (429, BUSY), (200, PAGE), retry_after="7")
    Client("http://test", transport=answers).list_sessions()
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("csrn_client", "WARNING", f"{message}")
        for message in (
            "cannot connect to http://test/v1/sessions: refused: trying again in 0.2 s (1 of 2)",
            "http://test/v1/sessions answered 429 Too Many Requests: trying again in 7.0 s (2 of 5)",
        )
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ReadTimeout("timed out"), "no answer from http://test/v1/sessions/s/support in time"),
        (httpx.ReadError("reset"), "lost the connection to http://test/v1/sessions/s/support: reset"),
        (
            httpx.LocalProtocolError("bad"),
            "cannot send the request to http://test/v1/.*: bad",
        ),
    ],
)
def test_a_service_that_does_not_answer_is_named(error: Exception, message: str) -> None:
    with pytest.raises(ServiceUnreachable, match=message):
        Client("http://test", transport=Answers(error)).add_support("s", ("a", b"image"))


@pytest.mark.parametrize("error", [httpx.LocalProtocolError("bad header"), httpx.TooManyRedirects("many")])
def test_a_request_that_can_never_succeed_is_not_sent_again(error: Exception) -> None:
    answers = Answers(error, (200, PAGE))
    with pytest.raises(ServiceUnreachable):
        Client(transport=answers).list_sessions()
    assert answers.count == 1


def test_a_renaming_that_may_have_happened_is_not_sent_again() -> None:
    answers = Answers(httpx.ReadError("lost"), (200, {}))
    with pytest.raises(ServiceUnreachable):
        Client(transport=answers).update_class("s", "a", new_label="b")
    assert answers.count == 1


def test_images_are_sent_again_if_no_connection_was_made() -> None:
    answers = Answers(httpx.ConnectError("refused"), (404, NOT_FOUND))
    with pytest.raises(ServiceProblem) as raised:
        Client(transport=answers).add_support("s", [("a", b"image")])
    assert (raised.value.code, answers.count) == ("session_not_found", 2)


def test_a_repeated_delete_succeeds_if_the_first_attempt_deleted_the_session() -> None:
    Client(transport=Answers(httpx.ReadError("lost"), (404, NOT_FOUND))).delete_session("s")
    with pytest.raises(ServiceProblem):
        Client(transport=Answers((404, NOT_FOUND))).delete_session("s")


@pytest.mark.parametrize("answer", [(200, {"not": "a page"}), (502, "a proxy"), (404, {"detail": "no"})])
def test_a_response_of_another_server_is_unexpected(answer: Answer) -> None:
    with pytest.raises(UnexpectedResponse, match="http://test/v1/sessions"):
        Client("http://test", transport=Answers(answer)).list_sessions()


def test_only_what_is_given_is_changed() -> None:
    sent: list[tuple[str, str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.path, json.loads(request.content)))
        return httpx.Response(404, json=NOT_FOUND)

    client = Client(transport=httpx.MockTransport(answer))
    calls: list[Callable[[], object]] = [
        lambda: client.update_session("s", name=None, ttl_s=None),
        lambda: client.update_session("s", metadata={"a": 1}),
        lambda: client.update_session("s"),
        lambda: client.update_class("s", "a", new_label="b"),
        lambda: client.update_class("s", "a", enabled=False),
    ]
    for call in calls:
        with pytest.raises(ServiceProblem):
            call()
    assert sent == [
        ("PATCH", "/v1/sessions/s", {"name": None, "ttl_s": None}),
        ("PATCH", "/v1/sessions/s", {"metadata": {"a": 1}}),
        ("PATCH", "/v1/sessions/s", {}),
        ("PATCH", "/v1/sessions/s/classes/a", {"label": "b", "enabled": None}),
        ("PATCH", "/v1/sessions/s/classes/a", {"label": None, "enabled": False}),
    ]


def test_the_async_client_retries_too() -> None:
    async def ask() -> None:
        answers = Answers((429, BUSY), httpx.ConnectError("refused"), (200, PAGE))
        async with AsyncClient(transport=answers) as client:
            assert (await client.list_sessions()).sessions == []
        assert answers.count == 3

    asyncio.run(ask())
