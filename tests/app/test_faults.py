"""What is promised where a part fails: the answer, and that the service goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from app.main import create_app
from model.classifier import Classifier
from model.faces import FaceReader
from tests.app.test_api import assert_problem, sample, settings
from tests.conftest import LOCAL, sample_bytes

SECRET = "what is within"


@pytest.fixture
def client(weights: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(settings(weights, tmp_path, stall_s=3, face_threads=1))
    with TestClient(app, headers=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def taught(client: TestClient) -> str:
    path: str = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
    files = [sample("anger", 0), sample("happiness", 0)]
    assert client.post(f"{path}/support", files=files, data={"labels": ["a", "b"]}).status_code == 201
    return path


def classify(client: TestClient, path: str) -> Any:
    return client.post(f"{path}/classify", files=[sample("anger", 4)])


def fails_once(error: Callable[[], BaseException], work: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error()
        return work(*args, **options)

    return failing


def assert_answers_again(client: TestClient, path: str) -> None:
    answer = classify(client, path)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["faces"][0]["scores"] != []
    assert client.get("/readyz").status_code == 200


def test_a_fault_of_the_landmarks_fails_its_image_and_no_other(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FaceReader.read

    def failing(self: FaceReader, data: bytes, **options: Any) -> Any:
        if data == sample_bytes("anger", 5):
            raise RuntimeError(SECRET)
        return read(self, data, **options)

    monkeypatch.setattr(FaceReader, "read", failing)
    answer = client.post(f"{taught}/classify", files=[sample("anger", 4), sample("anger", 5)])
    assert answer.status_code == 200
    good, bad = answer.json()["results"]
    assert len(good["faces"]) == 1
    assert bad["error"]["code"] == "internal_error"
    alone = client.post(f"{taught}/classify", files=[sample("anger", 5)])
    assert_problem(alone, 500, "internal_error")
    assert SECRET not in answer.text + alone.text
    assert_answers_again(client, taught)


def test_a_fault_of_the_landmarks_is_no_fault_of_an_example(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = fails_once(lambda: RuntimeError(SECRET), FaceReader.read_single)
    monkeypatch.setattr(FaceReader, "read_single", failing)
    added = client.post(f"{taught}/classes/a/examples", files=[sample("anger", 1)])
    assert_problem(added, 500, "internal_error")
    assert client.post(f"{taught}/classes/a/examples", files=[sample("anger", 1)]).status_code == 201


def test_a_batch_that_raises_is_a_500_for_its_request_alone(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "encode", fails_once(lambda: RuntimeError(SECRET), Classifier.encode))
    answer = classify(client, taught)
    assert_problem(answer, 500, "internal_error")
    assert SECRET not in answer.text
    assert_answers_again(client, taught)


def test_a_device_without_memory_is_an_overload(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = fails_once(lambda: torch.OutOfMemoryError(SECRET), Classifier.encode)
    monkeypatch.setattr(Classifier, "encode", failing)
    answer = classify(client, taught)
    assert_problem(answer, 429, "overloaded")
    assert answer.headers["retry-after"]
    assert_answers_again(client, taught)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("part", "method", "owner"),
    [("faces", "read", FaceReader), ("device", "encode", Classifier)],
)
def test_a_thread_that_dies_makes_the_service_not_ready_until_it_is_replaced(
    client: TestClient,
    taught: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
    method: str,
    owner: type,
) -> None:
    engine = client.app.state.engine  # type: ignore[attr-defined]
    mend = engine.mend
    # Not by itself, so that the time between can be looked at.
    monkeypatch.setattr(engine, "mend", lambda: None)
    monkeypatch.setattr(owner, method, fails_once(SystemExit, getattr(owner, method)))
    assert_problem(classify(client, taught), 500, "internal_error")
    assert_problem(client.get("/readyz"), 503, "not_ready")
    assert client.get("/livez").status_code == 200
    with caplog.at_level(logging.CRITICAL):
        mend()
    assert f"a {part} thread has died" in caplog.text
    assert_answers_again(client, taught)


def test_a_thread_that_is_stuck_is_given_up(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    read = FaceReader.read
    stuck = list[int]()

    def waiting(self: FaceReader, data: bytes, **options: Any) -> Any:
        if not stuck:
            stuck.append(1)
            go_on.wait(20)
        return read(self, data, **options)

    monkeypatch.setattr(FaceReader, "read", waiting)
    assert_problem(classify(client, taught), 500, "internal_error")
    assert_answers_again(client, taught)
    go_on.set()
