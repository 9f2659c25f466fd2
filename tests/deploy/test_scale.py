"""Replicas on one PostgreSQL behind the shipped proxy: they share sessions, are rolled and are killed."""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from csrn_client import Client
from tests.support.api import assert_problem, bearer, teach
from tests.support.postgresql import needs_postgresql
from tests.support.proxied import KEY, OUTAGE_S, Proxied, needs_haproxy
from tests.support.samples import SAMPLES, distinct_copy, sample_bytes
from tests.support.traffic import CLIENTS, Traffic

pytestmark = [needs_haproxy, needs_postgresql]
SLOW_CLIENTS = 15
MAX_BODY_BYTES = 300_000
REQUEST_S, ANSWER_S = 3, 6
UPLOAD = f"""POST /v1/classify HTTP/1.1\r
Host: proxy\r
Authorization: Bearer {KEY}\r
Content-Type: multipart/form-data; boundary=b\r
Content-Length: 100000\r
\r
--b\r
Content-Disposition: form-data; name="images"; filename="x.jpg"\r
\r
"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    proxied = Proxied(
        tmp_path_factory.mktemp("proxied"),
        CSRN_MAX_BODY_BYTES=str(MAX_BODY_BYTES),
        CSRN_REQUEST_TIMEOUT=f"{REQUEST_S}s",
        CSRN_ANSWER_TIMEOUT=f"{ANSWER_S}s",
    )
    with contextlib.closing(proxied):
        proxied.start(3)
        yield proxied


def stream(proxied: Proxied, path: str) -> contextlib.AbstractContextManager[ClientConnection]:
    url = "ws://{}:{}".format(*proxied.address) + f"{path}/stream"
    return connect(url, additional_headers=bearer(KEY))


def close_code(socket: ClientConnection) -> int | None:
    """Sends a frame. Returns None if it is answered, else the code with which the stream was closed."""
    try:
        socket.send(sample_bytes("anger", 5))
        assert '"predicted":"anger"' in str(socket.recv(20))
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
    return None


def send_slowly(address: tuple[str, int], beginning: str, *, then: bytes) -> tuple[str, float]:
    """Sends the beginning, then `then` ten times a second. Returns the answer and its delay in s."""
    began = time.monotonic()
    with socket.create_connection(address) as client:
        client.sendall(beginning.encode())
        client.settimeout(0.1)
        while time.monotonic() < began + 3 * ANSWER_S:
            with contextlib.suppress(TimeoutError):
                return client.recv(65536).decode(), time.monotonic() - began
            client.sendall(then)
    raise AssertionError("the proxy has not disconnected a slow client")


def wait_until_unready(client: httpx.Client) -> None:
    """Wait until the outage of the store is longer than CSRN_STORE_OUTAGE_S."""
    deadline = time.monotonic() + 3 * OUTAGE_S
    while client.get("/readyz").status_code != 503:
        assert time.monotonic() < deadline, "the service is still ready"
        time.sleep(0.1)


def test_the_proxy_refuses_in_the_words_of_the_service(proxied: Proxied) -> None:
    with proxied.client() as client:
        for response, status, code in (
            (client.post("/v1/classify", content=b"x" * (MAX_BODY_BYTES + 1)), 413, "body_too_large"),
            (client.get("/v1/model", headers={"X-Long": "x" * 8000}), 431, "headers_too_large"),
            (client.get("/metrics"), 404, "not_found"),
            (client.get("/%6detrics"), 404, "not_found"),
            (client.get("/v1/model", headers=bearer("other")), 401, "unauthorized"),
        ):
            assert (response.status_code, response.json()["code"]) == (status, code)


def test_slow_clients_are_disconnected_and_others_are_served_meanwhile(proxied: Proxied) -> None:
    kinds = [
        ("GET / HTTP/1.1\r\nX-Slow: ", b"x", 408, REQUEST_S),
        (UPLOAD, b"x", 408, REQUEST_S),
        (UPLOAD + 80_000 * "x", b"", 504, ANSWER_S),
    ] * SLOW_CLIENTS
    with ThreadPoolExecutor(len(kinds)) as pool, proxied.client() as client:
        slow = [
            pool.submit(send_slowly, proxied.address, beginning, then=then) for beginning, then, *_ in kinds
        ]
        path = teach(client, {"anger": 1})
        query = {"images": sample_bytes("anger", 5)}
        assert client.post(f"{path}/classify", files=query).status_code == 200
        assert not slow[-1].done()
        for (*_, status, limit_s), (answer, after_s) in zip(kinds, (o.result() for o in slow), strict=True):
            assert answer.startswith(f"HTTP/1.1 {status}")
            assert limit_s - 0.2 < after_s < limit_s + 4


def test_a_write_acknowledged_by_one_replica_is_seen_by_the_others_at_once(proxied: Proxied) -> None:
    clients = [Client(replica.url, api_key=KEY, retries=0) for replica in proxied.replicas]
    session_id, images = clients[0].create_session().id, [SAMPLES / "anger" / "00.jpg"]
    for writer, reader in itertools.permutations(clients, 2):
        for label, example in (("calm", images), ("angry", [SAMPLES / "anger" / "01.jpg"])):
            writer.add_examples(session_id, label, example)
            (face,) = reader.classify(session_id, images).results[0].faces
            assert label in {score.label for score in face.scores}
        writer.delete_class(session_id, "angry")
        (face,) = reader.classify(session_id, images).results[0].faces
        assert [score.label for score in face.scores] == ["calm"]
        writer.delete_class(session_id, "calm")
        assert reader.get_session(session_id).classes == []


def test_writers_to_all_replicas_share_a_session(proxied: Proxied) -> None:
    clients = [Client(replica.url, api_key=KEY, retries=0) for replica in proxied.replicas]
    session_id, ids = clients[0].create_session().id, [f"n{number}" for number in range(16)]

    def add(number: int) -> None:
        images = [distinct_copy(sample_bytes("anger", number % 8), number)]
        clients[number % 3].add_examples(session_id, "anger", images, example_ids=ids[number : number + 1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    assert sorted(clients[1].get_class(session_id, "anger").example_ids) == sorted(ids)
    assert clients[1].get_session(session_id).revision == 16


@pytest.mark.parametrize("hangs", [False, True])
def test_a_short_outage_of_postgresql_takes_no_replica_out(proxied: Proxied, hangs: bool) -> None:
    example = ("support", ("a.jpg", sample_bytes("anger", 0), "image/jpeg"))
    query = ("images", ("q.jpg", sample_bytes("anger", 5), "image/jpeg"))
    postgresql, answers, ready = proxied.postgresql, [], set()
    with proxied.client() as client:
        path = teach(client, {"anger": 1})
        (postgresql.pause if hangs else postgresql.stop)()
        ended = time.monotonic() + 0.8 * OUTAGE_S
        while time.monotonic() < ended:
            answers.append(client.post("/v1/classify", files=[example, query], data={"labels": "anger"}))
            answers.append(client.get("/"))
            ready.add(proxied.ready_count())
            if not hangs:
                refused = client.get(path)
                assert_problem(refused, 503, "not_ready")
                assert int(refused.headers["retry-after"]) >= 1
                assert "x-request-id" in refused.headers, "the proxy has answered itself"
        (postgresql.resume if hangs else postgresql.start)()
        assert {answer.status_code for answer in answers} == {200}
        assert ready == {3}
        assert client.get(path).status_code == 200
    for replica in proxied.replicas:
        assert httpx.get(f"{replica.url}/readyz").json() == {"status": "ready"}


def test_the_service_is_not_ready_while_postgresql_is_down_and_needs_no_restart(proxied: Proxied) -> None:
    with proxied.client(proxied.replicas[0].url) as client:
        path, query = teach(client, {"anger": 1}), {"images": sample_bytes("anger", 1)}
        before = client.get(path).json()
        proxied.postgresql.stop(signal.SIGKILL)
        assert client.get("/livez").status_code == 200
        wait_until_unready(client)
        for response in (
            client.get("/readyz"),
            client.get(path),
            client.post("/v1/sessions"),
            client.post(f"{path}/classes/a/examples", files=query),
            client.post(f"{path}/classify", files=query),
        ):
            assert_problem(response, 503, "not_ready")
            assert int(response.headers["retry-after"]) >= 1
        proxied.postgresql.start()
        assert client.get("/readyz").status_code == 200
        assert client.get(path).json() == before
        assert client.post(f"{path}/classify", files=query).status_code == 200
    proxied.wait_until_noticed()


def test_a_rolled_replica_loses_no_request_and_its_streams_open_anew_elsewhere(proxied: Proxied) -> None:
    with proxied.client() as client, contextlib.ExitStack() as streams:
        path = teach(client, {"anger": 1})
        # The proxy gives each stream to the replica with the fewest connections.
        opened = [streams.enter_context(stream(proxied, path)) for _ in range(3)]
        assert [close_code(one) for one in opened] == [None] * 3
        with Traffic(proxied) as traffic:
            assert proxied.stop_oldest() == 0
            traffic.wait_for_more()
        assert (traffic.failures, traffic.lost) == ([], set())
        assert sorted(map(str, map(close_code, opened))) == ["1012", "None", "None"]
        assert close_code(streams.enter_context(stream(proxied, path))) is None


def test_a_killed_replica_loses_only_unanswered_requests(proxied: Proxied) -> None:
    with Traffic(proxied) as traffic:
        proxied.stop_oldest(signal.SIGKILL)
        traffic.wait_for_more()
    assert len(traffic.failures) <= CLIENTS
    assert traffic.lost == set()


def test_without_a_replica_the_proxy_says_that_the_service_is_not_ready(proxied: Proxied) -> None:
    proxied.stop_oldest(signal.SIGKILL)
    with proxied.client() as client:
        response = client.get("/v1/model")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert response.headers["retry-after"] == "1"
