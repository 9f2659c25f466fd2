"""A fault is an error of its request, or it ends the process."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from app.inference.watchdog import EXIT_CODE
from app.inference.work_queue import MAX_FAILURES
from app.main import create_app
from model.classifier import Classifier
from model.vision.faces import FaceReader
from tests.app.api.test_api import assert_problem, sample, settings
from tests.conftest import LOCAL, sample_bytes

SECRET = "internal text"


@pytest.fixture
def exit_codes() -> list[int]:
    """Exit codes with which the process would have ended."""
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


def classify(client: TestClient, path: str, *images: int) -> Any:
    return client.post(f"{path}/classify", files=[sample("anger", index) for index in images or (4,)])


def fail_once(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, error: Callable[[], BaseException]
) -> None:
    """Let the first call of a method raise."""
    calls, work = itertools.count(), getattr(owner, method)

    def failing(*args: Any, **options: Any) -> Any:
        if next(calls) == 0:
            raise error()
        return work(*args, **options)

    monkeypatch.setattr(owner, method, failing)


def test_an_image_that_cannot_be_read_because_of_a_fault_is_an_internal_error(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, FaceReader, "read", lambda: RuntimeError(SECRET))
    some = classify(client, taught, 4, 5)
    bad, good = some.json()["results"]
    assert (some.status_code, bad["error"]["code"], len(good["faces"])) == (200, "internal_error", 1)
    fail_once(monkeypatch, FaceReader, "read", lambda: RuntimeError(SECRET))
    alone = classify(client, taught)
    assert_problem(alone, 500, "internal_error")
    fail_once(monkeypatch, FaceReader, "read_single", lambda: RuntimeError(SECRET))
    example = client.post(f"{taught}/classes/a/examples", files=[sample("anger", 1)])
    assert_problem(example, 500, "internal_error")
    assert SECRET not in some.text + alone.text + example.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(RuntimeError, 500, "internal_error"), (torch.OutOfMemoryError, 429, "overloaded")],
)
def test_a_batch_that_raises_fails_its_request_or_frame_alone(
    client: TestClient,
    taught: str,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    status: int,
    code: str,
) -> None:
    fail_once(monkeypatch, Classifier, "encode", lambda: error(SECRET))
    answer = classify(client, taught)
    assert_problem(answer, status, code)
    assert ("retry-after" in answer.headers) == (status == 429)
    assert SECRET not in answer.text
    assert classify(client, taught).json()["results"][0]["faces"][0]["scores"] != []
    with client.websocket_connect(f"{taught}/stream") as stream:
        fail_once(monkeypatch, Classifier, "encode", lambda: error(SECRET))
        for expected in (code, None):
            stream.send_bytes(sample_bytes("anger", 4))
            assert (stream.receive_json()["error"] or {"code": None})["code"] == expected
    assert client.get("/readyz").status_code == 200


def die(*_: Any, **__: Any) -> None:
    raise SystemExit


def hang(*_: Any, **__: Any) -> None:
    threading.Event().wait(8)


def lose_device(*_: Any, **__: Any) -> None:
    raise torch.AcceleratorError("lost")


def fail(*_: Any, **__: Any) -> None:
    raise RuntimeError(SECRET)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("owner", "method", "fault", "requests", "reason"),
    [
        (FaceReader, "read", die, 1, "a faces thread has died"),
        (Classifier, "encode", die, 1, "a device thread has died"),
        (FaceReader, "read", hang, 1, "a faces thread has worked on one batch for more than 3 s"),
        (Classifier, "encode", lose_device, 1, "the device thread met a permanent error"),
        (Classifier, "encode", fail, MAX_FAILURES, "5 batches in a row failed on the device thread"),
    ],
)
def test_a_broken_worker_ends_the_process(
    client: TestClient,
    taught: str,
    exit_codes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    method: str,
    fault: Callable[..., None],
    requests: int,
    reason: str,
) -> None:
    monkeypatch.setattr(owner, method, fault)
    for _ in range(requests):
        assert client.get("/livez").status_code == 200
        assert_problem(classify(client, taught), 500, "internal_error")
    for path in ("/readyz", "/livez"):
        assert_problem(client.get(path), 503, "not_ready")
    until = time.monotonic() + 10
    while not exit_codes and time.monotonic() < until:
        time.sleep(0.05)
    assert exit_codes == [EXIT_CODE]
    critical = [record.message for record in caplog.records if record.levelno == logging.CRITICAL]
    assert critical == [f"the process ends with exit code 70: {reason}"]
