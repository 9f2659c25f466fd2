"""Replicas come, leave and die behind the balancer, with clients that never send a request twice."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.deploy.replicated import KEY, Replicated, needs_haproxy
from tests.support.postgresql import needs_postgresql
from tests.support.samples import sample_bytes

pytestmark = [needs_haproxy, needs_postgresql]
CLIENTS = 3
MAX_BODY_BYTES = 300_000


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    replicated = Replicated(tmp_path_factory.mktemp("replicated"), max_body_bytes=MAX_BODY_BYTES)
    try:
        replicated.start(2)
        yield replicated
    finally:
        replicated.stop()


class Traffic:
    """Clients that teach, look and classify, each in a session of its own, until told to stop."""

    def __init__(self, replicated: Replicated) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self._replicated, self._end = replicated, threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._runs = [self._pool.submit(self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Traffic:
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for run in self._runs:
            run.result()
        self._pool.shutdown()

    def go_on(self) -> None:
        """Until each client has been answered some more."""
        until, deadline = self.answered + 10 * CLIENTS, time.monotonic() + 30
        while self.answered < until:
            assert not any(run.done() for run in self._runs), "a client has met a fault"
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.02)

    def _run(self) -> None:
        with self._replicated.client() as client:
            path = taught_session(client)
            while not self._end.is_set():
                self._count(lambda: client.get(path))
                self._count(lambda: classify(client, path))
                self._end.wait(0.05)

    def _count(self, ask: Callable[[], httpx.Response]) -> None:
        try:
            response = ask()
        except httpx.TransportError as error:
            self.failures.append(repr(error))
            return
        if response.status_code == 200:
            self.answered += 1
        else:
            self.failures.append(f"{response.status_code} {response.text}")


def taught_session(client: httpx.Client) -> str:
    """Its path."""
    path = "/v1/sessions/" + str(client.post("/v1/sessions").json()["id"])
    for label in ("anger", "happiness"):
        images = {"images": sample_bytes(label, 0)}
        assert client.post(f"{path}/classes/{label}/examples", files=images).status_code == 201
    return path


def classify(client: httpx.Client, path: str) -> httpx.Response:
    return client.post(f"{path}/classify", files={"images": sample_bytes("anger", 5)})


def stream(replicated: Replicated, path: str) -> contextlib.AbstractContextManager[ClientConnection]:
    url = replicated.url.replace("http", "ws") + f"{path}/stream"
    return connect(url, additional_headers={"Authorization": f"Bearer {KEY}"})


def answers(socket: ClientConnection) -> bool:
    """Whether the stream is open; it then says what a frame shows."""
    try:
        socket.send(sample_bytes("anger", 5))
        assert '"predicted":"anger"' in str(socket.recv(10))
    except ConnectionClosed:
        return False
    return True


def test_any_replica_serves_any_session(replicated: Replicated) -> None:
    before = replicated.served_by_slot()
    with replicated.client() as client:
        path = taught_session(client)
        predicted = [classify(client, path).json()["results"][0]["faces"][0]["predicted"] for _ in range(8)]
    assert predicted == ["anger"] * 8
    shares = [after - earlier for after, earlier in zip(replicated.served_by_slot(), before, strict=True)]
    assert sum(share > 0 for share in shares) == 2, "one replica has served all"


def test_the_balancer_refuses_as_the_service_does(replicated: Replicated) -> None:
    with replicated.client() as client:
        large = client.post("/v1/classify", content=b"x" * (MAX_BODY_BYTES + 1))
        metrics = client.get("/metrics")
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    assert (metrics.status_code, metrics.json()["code"]) == (404, "not_found")
    assert httpx.get(f"{replicated.url}/v1/sessions").json()["code"] == "unauthorized"


def test_a_killed_replica_fails_no_request_but_those_it_had(replicated: Replicated) -> None:
    with Traffic(replicated) as traffic:
        replicated.stop_first(signal.SIGKILL)
        lost = len(traffic.failures)
        traffic.go_on()
    assert len(traffic.failures) == lost <= CLIENTS


def test_no_request_fails_while_new_replicas_take_the_place_of_an_old_one(replicated: Replicated) -> None:
    with Traffic(replicated) as traffic:
        replicated.start(2)
        traffic.go_on()
        assert replicated.stop_first() == 0
        traffic.go_on()
    assert traffic.failures == []
    assert "Layer7 wrong status, code: 503" in replicated.balancer_log, "it was not seen to drain"


def test_a_replica_that_leaves_ends_its_streams_alone_and_they_open_anew(replicated: Replicated) -> None:
    with replicated.client() as client, contextlib.ExitStack() as streams:
        path = taught_session(client)
        # The balancer gives each to the replica that has fewest.
        first, second = (streams.enter_context(stream(replicated, path)) for _ in replicated.replicas)
        assert answers(first)
        assert answers(second)
        assert replicated.stop_first() == 0
        assert answers(first) != answers(second)
        assert answers(streams.enter_context(stream(replicated, path)))


def test_without_a_replica_the_balancer_says_so(replicated: Replicated) -> None:
    while replicated.replicas:
        replicated.stop_first(signal.SIGKILL)
    with replicated.client() as client:
        response = client.get("/v1/model")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert response.headers["retry-after"] == "1"
