"""Two services on one PostgreSQL, and clients that check the content of their sessions."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import EXPRESSIONS, sample_bytes
from tests.e2e.service import Service
from tests.support.postgresql import PostgresqlServer

LABELS = ("calm", "wütend", "驚き", "a/b")
MAX_EXAMPLES = 12
WORKERS = 4

Support = dict[str, tuple[str, tuple[str, int]]]
"""The examples of a session, oldest first: example id to label and sample image"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    postgresql: PostgresqlServer
    replicas: list[Service]


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Two ready services, which write their logs to `folder`."""
    with contextlib.ExitStack() as started:
        postgresql = PostgresqlServer()
        started.callback(postgresql.remove)
        replicas = []
        for _ in range(2):
            replicas.append(Service(folder, store=postgresql.url()))
            started.callback(replicas[-1].stop)
        yield Cluster(postgresql=postgresql, replicas=replicas)


def part(image: tuple[str, int], field: str = "images") -> tuple[str, tuple[str, bytes, str]]:
    return field, ("face.jpg", sample_bytes(*image), "image/jpeg")


class Worker:
    """A client that sends each request to a random replica, and knows what its session must hold."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._chance = random.Random(number)
        self._number, self._count = number, 0
        self._clients = [httpx.Client(base_url=r.client.base_url, timeout=30) for r in cluster.replicas]
        self.support: Support = {}
        self.done = 0
        self.path = "/v1/sessions/" + self.ask("POST", "/v1/sessions").json()["id"]

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        response = self._chance.choice(self._clients).request(method, path, **content)
        assert response.status_code < 500, response.text
        return response

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            step = self._chance.choice((self._add, self._add, self._delete, self._classify))
            try:
                step()
            except httpx.TransportError:
                continue
            self._check()
            self.done += 1

    def _write(self, after: Support, method: str, path: str, **content: Any) -> None:
        """Make a write after which the session holds `after`. Without an answer, it may be absent."""
        try:
            response = self.ask(method, f"{self.path}/classes/{path}", **content)
        except httpx.TransportError:
            if self._settled() == self._by_class(after):
                self.support = after
            self._check()
            raise
        assert response.status_code in (200, 201, 204), response.text
        self.support = after

    def _add(self) -> None:
        if len(self.support) >= MAX_EXAMPLES:
            return self._delete()
        label = self._chance.choice(LABELS)
        ids = [f"{self._number}-{self._count + index}" for index in range(self._chance.randint(1, 2))]
        self._count += len(ids)
        images = [(self._chance.choice(EXPRESSIONS), self._chance.randrange(8)) for _ in ids]
        added = {name: (label, image) for name, image in zip(ids, images, strict=True)}
        return self._write(
            {**self.support, **added},
            "POST",
            f"{label.replace('/', '%2F')}/examples",
            files=[part(image) for image in images],
            data={"example_ids": ids},
        )

    def _delete(self) -> None:
        if not self.support:
            return
        name, (label, _) = self._chance.choice([*self.support.items()])
        path = label.replace("/", "%2F")
        if self._chance.random() < 0.5:
            after = {other: of for other, of in self.support.items() if other != name}
            self._write(after, "DELETE", f"{path}/examples/{name}")
        else:
            after = {other: of for other, of in self.support.items() if of[0] != label}
            self._write(after, "DELETE", path)

    def _classify(self) -> None:
        response = self.ask("POST", f"{self.path}/classify", files=[part(("anger", 5))])
        if not self.support:
            assert response.json()["code"] == "no_classes"
            return
        ((face,),) = [result["faces"] for result in response.json()["results"]]
        nearest = {score["label"]: score["nearest_example_id"] for score in face["scores"]}
        assert nearest.keys() == {label for label, _ in self.support.values()}
        assert all(self.support[name][0] == label for label, name in nearest.items())

    def _check(self) -> None:
        assert self._held() == self._by_class(self.support)

    def _held(self) -> dict[str, list[str]]:
        """The example ids of each class. Tries again until a replica answers."""
        while True:
            try:
                classes = self.ask("GET", self.path).json()["classes"]
                return {
                    entry["label"]: self.ask(
                        "GET", f"{self.path}/classes/{entry['label'].replace('/', '%2F')}"
                    ).json()["example_ids"]
                    for entry in classes
                }
            except httpx.TransportError:
                time.sleep(0.05)

    def _settled(self) -> dict[str, list[str]]:
        """As _held, after PostgreSQL has ended the transactions of a killed process."""
        time.sleep(0.3)
        return self._held()

    @staticmethod
    def _by_class(support: Support) -> dict[str, list[str]]:
        classes: dict[str, list[str]] = {}
        for name, (label, _) in support.items():
            classes.setdefault(label, []).append(name)
        return classes

    def assert_answers_as_without_a_session(self) -> None:
        """Each replica gives the same scores as the stateless call with the images of the session."""
        if not self.support:
            return
        query = part(("sadness", 6))
        expected = self._clients[0].post(
            "/v1/classify",
            files=[*(part(image, "support") for _, image in self.support.values()), query],
            data={"labels": [label for label, _ in self.support.values()]},
        )
        for client in self._clients:
            given = client.post(f"{self.path}/classify", files=[query])
            assert _scores(given) == pytest.approx(_scores(expected), abs=1e-3)


def _scores(response: httpx.Response) -> dict[str, float]:
    """Label to score of the only face."""
    ((face,),) = [result["faces"] for result in response.json()["results"]]
    return {score["label"]: score["score"] for score in face["scores"]}


def kill_under_load(cluster: Cluster, kills: int) -> None:
    """Kill replicas with -9 while clients work. Asserts that no acknowledged write is lost."""
    workers = [Worker(cluster, number) for number in range(WORKERS)]
    stop = threading.Event()

    def all_go_on() -> None:
        before = [worker.done for worker in workers]
        deadline = time.monotonic() + 60
        while any(w.done < b + 3 for w, b in zip(workers, before, strict=True)):
            assert time.monotonic() < deadline
            assert not any(run.done() for run in runs), "a worker found a fault"
            time.sleep(0.1)

    with ThreadPoolExecutor(WORKERS) as pool:
        runs = [pool.submit(worker.work, stop) for worker in workers]
        try:
            all_go_on()
            for kill in range(kills):
                replica = cluster.replicas[kill % len(cluster.replicas)]
                replica.stop(signal.SIGKILL)
                all_go_on()
                replica.start()
                replica.wait_until_ready()
                all_go_on()
        finally:
            stop.set()
            for run in runs:
                run.result()
    for worker in workers:
        worker.assert_answers_as_without_a_session()
