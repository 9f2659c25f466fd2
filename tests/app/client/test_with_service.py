"""The client with a real service."""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import csrn_client
from csrn_client import (
    AsyncClient,
    AsyncSession,
    Client,
    InvalidImage,
    ServiceProblem,
    Session,
)
from csrn_client import Image as ImageKind
from tests.support.samples import SAMPLES, no_face
from tests.support.service import Service

ANGER, HAPPINESS = SAMPLES / "anger", SAMPLES / "happiness"
QUERY = ANGER / "05.jpg"
SUPPORT: dict[str, ImageKind] = {"anger": ANGER / "00.jpg", "happiness": str(HAPPINESS / "00.jpg")}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(
        tmp_path_factory.mktemp("service"),
        CSRN_API_KEYS="ann:secret",
        CSRN_ROOT_PATH="/faces",
        CSRN_STREAM_IDLE_S="1",
        CSRN_MAX_IMAGE_BYTES="1000000",
        CSRN_MAX_BODY_BYTES="2000000",
        CSRN_MAX_STREAMS="3",
    ) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with Client(f"{service.url}/faces", api_key="secret") as client:
        yield client


@pytest.fixture(scope="module")
def session(client: Client) -> Session:
    """A session with one example of each of two classes, which the tests do not change."""
    return client.create_session(name="taught").add_support(SUPPORT).session


def score(client: Client, session: Session, image: Any) -> float:
    return client.classify(session, image).results[0].faces[0].scores[0].score


def test_the_example_of_the_package_works(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"smile": HAPPINESS / "00.jpg", "wink": ANGER / "00.jpg", "query": HAPPINESS / "05.jpg"}
    for name, file in files.items():
        (tmp_path / f"{name}.jpg").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("csrn_client.Client", lambda url: contextlib.nullcontext(client))
    text = csrn_client.__doc__
    example, _, _ = text[text.index("    with Client(") :].partition("\n\n")
    exec("from csrn_client import Client\n" + textwrap.dedent(example))
    assert capsys.readouterr().out.startswith("smile 0.")


def test_every_method_takes_a_session_or_its_id(client: Client) -> None:
    made = client.create_session(name="both")
    for session in (made, made.id):
        client.add_support(session, [("a", ANGER / "00.jpg")])
        client.add_examples(session, "b", HAPPINESS / "00.jpg", example_ids=["one"])
        assert client.get_session(session).name == "both"
        assert client.get_class(session, "b").example_ids == ["one"]
        assert client.get_quality(session).labels == ["a", "b"]
        assert len(client.classify(session, QUERY).results[0].faces) == 1
        client.replace_class(session, "a", ANGER / "01.jpg")
        client.delete_example(session, "b", "one")
        client.delete_class(session, "a")
        assert client.get_session(session).classes == []
        assert client.import_session(client.export_session(session)).classes == []
    client.delete_session(made)
    with pytest.raises(ServiceProblem, match="does not exist"):
        client.get_session(made)


def test_a_session_has_methods_wherever_it_comes_from(client: Client, session: Session) -> None:
    listed = next(item for item in client.list_sessions(limit=1000).sessions if item.id == session.id)
    for found in (session, listed, client.get_session(session.id)):
        assert found == client.get_session(session)
        assert found.classify(QUERY).results[0].faces[0].scores[0].label == "anger"
    assert deepcopy(session).classify(QUERY).results[0].faces[0].scores[0].label == "anger"
    copy = client.import_session(client.export_session(session))
    assert copy.add_examples("sadness", SAMPLES / "sadness" / "00.jpg").session.classes[2].label == "sadness"


def test_a_session_and_its_classes_are_changed(client: Client) -> None:
    session = client.create_session(name="before", ttl_s=60, metadata={"a": 1})
    changed = client.update_session(session, name="after", metadata={"b": 2})
    assert (changed.name, changed.metadata, changed.expires_at) == ("after", {"b": 2}, session.expires_at)
    changed = client.update_session(session.id, name=None, ttl_s=None)
    assert (changed.name, changed.metadata, changed.expires_at) == (None, {"b": 2}, None)
    assert client.update_session(session) == changed
    changed.add_support(SUPPORT)
    renamed = client.update_class(session, "anger", new_label="frown")
    assert (renamed.label, renamed.examples, renamed.enabled) == ("frown", 1, True)
    client.update_class(session, "happiness", enabled=False)
    (face,) = session.classify(QUERY).results[0].faces
    assert [score.label for score in face.scores] == ["frown"]


def test_sessions_are_found_by_name(client: Client) -> None:
    named = client.create_session(name="a name of its own")
    assert [found.id for found in client.list_sessions(name="a name of its own").sessions] == [named.id]
    assert [found.id for found in client.iterate_sessions("a name of its own")] == [named.id]
    assert list(client.iterate_sessions(name="nobody")) == []


def test_the_best_scores_alone_are_returned(client: Client, session: Session) -> None:
    (every,) = session.classify(QUERY).results[0].faces
    (best,) = session.classify(QUERY, top_k=1).results[0].faces
    assert (best.scores, best.margin, best.predicted) == (every.scores[:1], every.margin, every.predicted)
    (frame,) = session.stream(QUERY, top_k=1)
    (stateless,) = client.classify_stateless(SUPPORT, QUERY, top_k=1).results
    assert len(frame.faces[0].scores) == len(stateless.faces[0].scores) == 1


def test_images_in_memory_score_as_their_files(client: Client, session: Session) -> None:
    photo = Image.open(QUERY)
    from_file = score(client, session, QUERY)
    with QUERY.open("rb") as file:
        assert score(client, session, file) == from_file
    assert score(client, session, photo) == pytest.approx(from_file, abs=0.01)
    assert score(client, session, np.asarray(photo)) == pytest.approx(from_file, abs=0.01)


def test_sessions_are_iterated_over_all_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        client.create_session()
    list_sessions = client.list_sessions
    monkeypatch.setattr(client, "list_sessions", lambda **options: list_sessions(limit=2, **options))
    found = [session.id for session in client.iterate_sessions()]
    assert found == [session.id for session in list_sessions(limit=1000).sessions]
    assert len(found) >= 3


def test_more_images_than_one_request_takes_are_classified(client: Client, session: Session) -> None:
    results = client.classify(session, [b"no image"] * 64 + [QUERY]).results
    assert [result.index for result in results] == [*range(65)]
    assert [result.error is None for result in results] == [False] * 64 + [True]
    assert len(results[64].faces) == 1


def test_a_service_with_a_lower_limit_gets_smaller_requests(client: Client, session: Session) -> None:
    unreadable = bytes(500_000)
    results = client.classify(session, [unreadable] * 40 + [QUERY]).results
    assert [result.error is None for result in results] == [False] * 40 + [True]


def test_a_stream_yields_a_result_for_each_frame(client: Client, session: Session) -> None:
    photo = QUERY.read_bytes()
    frames: list[ImageKind] = [
        QUERY,
        photo,
        np.asarray(Image.open(QUERY)),
        b"no image",
        no_face(),
        str(QUERY),
    ]
    results = list(session.stream(iter(frames), unknown_below=0.0, regions=True))
    assert [result.index for result in results] == [*range(6)]
    assert [result.dropped for result in results] == [0] * 6
    assert [len(result.faces) for result in results] == [1, 1, 1, 0, 0, 1]
    assert results[3].error is not None
    assert results[3].error.code == "image_unreadable"
    assert results[0].faces[0].predicted == "anger"
    assert results[0].faces[0].regions is not None
    assert results[0].unknown_below == 0.0
    (alone,) = client.stream(session.id, QUERY)
    assert alone.faces[0].regions is None


def test_a_frame_is_taken_when_the_one_before_is_answered(session: Session) -> None:
    taken = 0

    def camera() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield QUERY

    for result in session.stream(camera()):
        assert taken == result.index + 1
        if taken == 3:
            break


def test_a_stream_that_is_left_frees_its_place(session: Session) -> None:
    for _ in range(8):
        for result in session.stream([QUERY, QUERY]):
            assert result.index == 0
            break


def test_the_service_says_why_it_closes_a_stream(client: Client, service: Service) -> None:
    def code_of(stream: Iterator[object]) -> tuple[str, int]:
        with pytest.raises(ServiceProblem, match="The service closed the stream: ") as raised:
            list(stream)
        return raised.value.code, raised.value.problem.status

    session = client.create_session()
    client.delete_session(session)
    assert code_of(session.stream([QUERY])) == ("session_not_found", 404)
    stranger = Client(f"{service.url}/faces", api_key="wrong")
    assert code_of(stranger.stream(session, [QUERY])) == ("unauthorized", 401)
    other = client.create_session()
    assert code_of(other.stream([bytes(1_100_000)])) == ("body_too_large", 413)


def test_a_stream_without_frames_for_too_long_is_closed(client: Client, session: Session) -> None:
    def slow() -> Iterator[Path]:
        yield QUERY
        time.sleep(1.3)
        yield QUERY

    stream = session.stream(slow())
    next(stream)
    with pytest.raises(ServiceProblem) as raised:
        next(stream)
    assert raised.value.code == "idle"


def test_an_error_of_the_frames_is_not_an_error_of_the_service(session: Session) -> None:
    def camera() -> Iterator[Path]:
        yield QUERY
        raise OSError("the camera was unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(session.stream(camera()))
    with pytest.raises(FileNotFoundError):
        list(session.stream(["missing.jpg"]))
    with pytest.raises(InvalidImage):
        list(session.stream([None]))  # type: ignore[list-item]


def test_the_async_client_does_the_same(service: Service) -> None:
    async def camera() -> AsyncIterator[Path]:
        for _ in range(2):
            yield QUERY

    async def use() -> None:
        async with AsyncClient(f"{service.url}/faces", api_key="secret") as client:
            session = await client.create_session(name="async")
            assert isinstance(session, AsyncSession)
            added = await session.add_support(SUPPORT)
            assert (await added.session.classify(QUERY)).results[0].faces[0].scores[0].label == "anger"
            found = [item.id async for item in client.iterate_sessions()]
            assert session.id in found
            for frames in (camera(), [QUERY, QUERY]):
                results = [result async for result in session.stream(frames)]
                assert [result.index for result in results] == [0, 1]
            await client.delete_session(session)
            with pytest.raises(ServiceProblem, match="session not found"):
                await anext(session.stream(QUERY))

    asyncio.run(use())
