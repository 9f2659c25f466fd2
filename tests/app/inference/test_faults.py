"""A fault is an error of its request, or it ends the process."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from app.inference.watchdog import EXIT_CODE
from app.main import create_app
from model.classifier import Classifier
from model.vision.faces import FaceReader
from tests.support.api import LOCAL, assert_problem, sample, settings, state_of, teach
from tests.support.samples import sample_bytes

SECRET = "internal text"


@pytest.fixture
def exit_codes() -> list[int]:
    """Exit codes with which the process would have ended."""
    return []


@pytest.fixture
def client(weights: Path, tmp_path: Path, exit_codes: list[int]) -> Iterator[TestClient]:
    app = create_app(settings(weights, tmp_path, face_threads=1), exit_process=exit_codes.append)
    with TestClient(app, headers=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def taught(client: TestClient) -> str:
    return teach(client, {"anger": 1, "happiness": 1})


def classify(client: TestClient, path: str, *images: int) -> Any:
    return client.post(f"{path}/classify", files=[sample("anger", index) for index in images or (4,)])


def fail_first(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, error: BaseException, *, times: int = 1
) -> None:
    """Let the first calls of a method raise."""
    calls, work = itertools.count(), getattr(owner, method)

    def failing(*args: Any, **options: Any) -> Any:
        if next(calls) < times:
            raise error
        return work(*args, **options)

    monkeypatch.setattr(owner, method, failing)


def test_an_image_that_cannot_be_read_because_of_a_fault_is_an_internal_error(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_first(monkeypatch, FaceReader, "read", RuntimeError(SECRET))
    some = classify(client, taught, 4, 5)
    bad, good = some.json()["results"]
    assert (some.status_code, bad["error"]["code"], len(good["faces"])) == (200, "internal_error", 1)
    fail_first(monkeypatch, FaceReader, "read", RuntimeError(SECRET))
    alone = classify(client, taught)
    assert_problem(alone, 500, "internal_error")
    fail_first(monkeypatch, FaceReader, "read_single", RuntimeError(SECRET))
    example = client.post(f"{taught}/classes/a/examples", files=[sample("anger", 1)])
    assert_problem(example, 500, "internal_error")
    assert SECRET not in some.text + alone.text + example.text


@pytest.mark.parametrize(
    ("error", "times", "status", "code"),
    [
        (RuntimeError, 1, 500, "internal_error"),
        (torch.OutOfMemoryError, 2, 429, "overloaded"),
        (lambda text: RuntimeError(f"CUDA error: out of memory {text}"), 2, 429, "overloaded"),
    ],
)
def test_a_batch_that_raises_fails_its_request_or_frame_alone(
    client: TestClient,
    taught: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[str], Exception],
    times: int,
    status: int,
    code: str,
) -> None:
    fail_first(monkeypatch, Classifier, "encode_on_device", error(SECRET), times=times)
    answer = classify(client, taught)
    assert_problem(answer, status, code)
    assert ("retry-after" in answer.headers) == (status == 429)
    assert SECRET not in answer.text
    assert classify(client, taught).json()["results"][0]["faces"][0]["scores"] != []
    with client.websocket_connect(f"{taught}/stream") as stream:
        fail_first(monkeypatch, Classifier, "encode_on_device", error(SECRET), times=times)
        for expected in (code, None):
            stream.send_bytes(sample_bytes("anger", 4))
            assert (stream.receive_json()["error"] or {"code": None})["code"] == expected
    assert client.get("/readyz").status_code == 200


def test_a_device_without_free_memory_drops_the_support_sets_and_tries_again(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is a fake one: there is no GPU here."""
    expected = classify(client, taught).json()["results"]
    kept = state_of(client).supports
    assert len(kept) == 1
    fail_first(monkeypatch, Classifier, "encode_on_device", torch.OutOfMemoryError(SECRET))
    assert classify(client, taught).json()["results"] == expected
    assert (len(kept), kept.size_bytes) == (0, 0)
    assert "the device has no memory left: dropping 1 support sets, then trying again" in caplog.messages
    assert classify(client, taught).json()["results"] == expected
    assert len(kept) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("owner", "method", "error", "reason"),
    [
        (FaceReader, "read", SystemExit(), "a faces thread has died"),
        (
            Classifier,
            "encode_on_device",
            torch.AcceleratorError(SECRET),
            "the device thread met a permanent error",
        ),
    ],
)
def test_a_broken_thread_is_seen_by_probes_and_ends_the_process(
    client: TestClient,
    taught: str,
    exit_codes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    method: str,
    error: BaseException,
    reason: str,
) -> None:
    fail_first(monkeypatch, owner, method, error)
    answers = [client.get("/livez"), classify(client, taught), client.get("/livez"), client.get("/readyz")]
    assert [answer.status_code for answer in answers] == [200, 500, 503, 503]
    until = time.monotonic() + 10
    while not exit_codes and time.monotonic() < until:
        time.sleep(0.05)
    assert exit_codes == [EXIT_CODE]
    critical = [record.message for record in caplog.records if record.levelno == logging.CRITICAL]
    assert critical == [f"the process ends with exit code 70: {reason}"]
