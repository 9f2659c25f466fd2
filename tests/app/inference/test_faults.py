"""What is promised where a part fails: the answer, and that the service goes on."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from app.inference.engine import FaceBatch, _Encode
from app.inference.watchdog import EXIT_CODE
from app.inference.work_queue import MAX_FAILURES
from app.main import create_app
from model.classifier import Classifier
from model.vision.faces import FaceReader
from tests.support.api import LOCAL, assert_problem, sample, settings
from tests.support.samples import sample_bytes

SECRET = "what is within"


@pytest.fixture
def exit_codes() -> list[int]:
    """Codes with which the process would have ended: the tests go on."""
    return []


@pytest.fixture
def client(weights: Path, tmp_path: Path, exit_codes: list[int]) -> Iterator[TestClient]:
    app = create_app(settings(weights, tmp_path, stall_s=3, face_threads=1), exit_process=exit_codes.append)
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


def wait_for_exit(exit_codes: list[int]) -> None:
    until = time.monotonic() + 10
    while not exit_codes and time.monotonic() < until:
        time.sleep(0.05)
    assert exit_codes == [EXIT_CODE]


def always_fails(error: Callable[[], BaseException]) -> Callable[..., Any]:
    def failing(*args: Any, **options: Any) -> Any:
        raise error()

    return failing


def fails_once(error: Callable[[], BaseException], work: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error()
        return work(*args, **options)

    return failing


def hangs_once(go_on: threading.Event, work: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def hanging(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            go_on.wait(20)
        return work(*args, **options)

    return hanging


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


def test_after_a_fault_of_the_landmarks_a_thread_has_a_new_face_mesh(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = []
    read = FaceReader.read

    def failing(self: FaceReader, data: bytes, **options: Any) -> Any:
        readers.append(self)
        if len(readers) == 1:
            raise RuntimeError(SECRET)
        return read(self, data, **options)

    monkeypatch.setattr(FaceReader, "read", failing)
    assert_problem(classify(client, taught), 500, "internal_error")
    assert_answers_again(client, taught)
    assert readers[0] is not readers[1]


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError, "internal_error"), (torch.OutOfMemoryError, "overloaded")]
)
def test_a_fault_within_a_stream_is_an_error_of_its_frame(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch, error: type[Exception], code: str
) -> None:
    with client.websocket_connect(f"{taught}/stream") as stream:
        monkeypatch.setattr(Classifier, "encode", fails_once(lambda: error(SECRET), Classifier.encode))
        stream.send_bytes(sample_bytes("anger", 4))
        assert stream.receive_json()["error"]["code"] == code
        stream.send_bytes(sample_bytes("anger", 4))
        assert len(stream.receive_json()["faces"]) == 1


def test_what_a_batch_without_memory_held_is_free_before_its_jobs_are_tried_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = client.app.state.engine  # type: ignore[attr-defined]
    held: list[weakref.ref[Any]] = []
    alive_at_retry = []
    encode = Classifier.encode

    def failing(self: Classifier, patches: Any, points: Any) -> Any:
        if len(patches) > 1:
            intermediate = np.zeros(3)
            held.append(weakref.ref(intermediate))
            raise torch.OutOfMemoryError(SECRET)
        alive_at_retry.append(held[0]() is not None)
        return encode(self, patches, points)

    monkeypatch.setattr(Classifier, "encode", failing)
    face = FaceBatch(
        patches=np.zeros((1, 3, 64, 64, 3), dtype=np.uint8), points=np.zeros((1, 468, 2), dtype=np.float32)
    )
    jobs = [_Encode(face) for _ in range(2)]
    client.portal.call(engine._device.submit_all, jobs)  # type: ignore[union-attr]
    assert alive_at_retry == [False, False]


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
def test_a_thread_that_dies_ends_the_process(
    client: TestClient,
    taught: str,
    exit_codes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
    method: str,
    owner: type,
) -> None:
    monkeypatch.setattr(owner, method, fails_once(SystemExit, getattr(owner, method)))
    assert_problem(classify(client, taught), 500, "internal_error")
    for path in ("/readyz", "/livez"):
        answer = client.get(path)
        assert_problem(answer, 503, "not_ready")
        assert answer.json()["detail"] == f"a {part} thread has died"
    wait_for_exit(exit_codes)
    assert [record.message for record in caplog.records if record.levelno == logging.CRITICAL] == [
        f"the process ends with exit code 70: a {part} thread has died"
    ]


def test_a_thread_that_is_stuck_fails_its_request_and_ends_the_process(
    client: TestClient, taught: str, exit_codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(FaceReader, "read", hangs_once(go_on, FaceReader.read))
    assert_problem(classify(client, taught), 500, "internal_error")
    assert_problem(client.get("/livez"), 503, "not_ready")
    wait_for_exit(exit_codes)
    go_on.set()


def test_a_fault_of_the_device_that_does_not_go_away_ends_the_process(
    client: TestClient, taught: str, exit_codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "encode", always_fails(lambda: torch.AcceleratorError("lost")))
    assert_problem(classify(client, taught), 500, "internal_error")
    assert_problem(client.get("/livez"), 503, "not_ready")
    wait_for_exit(exit_codes)


def test_five_batches_in_a_row_that_fail_end_the_process(
    client: TestClient, taught: str, exit_codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "encode", always_fails(lambda: RuntimeError(SECRET)))
    for _ in range(MAX_FAILURES):
        assert client.get("/livez").status_code == 200
        assert_problem(classify(client, taught), 500, "internal_error")
    assert_problem(client.get("/livez"), 503, "not_ready")
    wait_for_exit(exit_codes)
