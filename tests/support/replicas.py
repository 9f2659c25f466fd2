"""Two services on one PostgreSQL, and clients that know what their sessions must contain."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from csrn_client import Client, ServiceProblem, ServiceUnreachable
from tests.support.postgresql import PostgresqlServer
from tests.support.samples import EXPRESSIONS, SAMPLES
from tests.support.service import Service

LABELS = ("calm", "wütend", "驚き", "a b?")
MAX_EXAMPLES = 12
WORKERS = 4

Support = dict[str, tuple[str, Path]]
"""What a session must contain, oldest first: example id to label and image file"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    postgresql: PostgresqlServer
    replicas: list[Service]

    def clients(self) -> list[Client]:
        """A client of each replica. It sends each request once."""
        return [Client(replica.url, retries=0) for replica in self.replicas]


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Two ready services, which write their logs to the folder."""
    with contextlib.ExitStack() as started:
        postgresql = PostgresqlServer()
        started.callback(postgresql.remove)
        replicas = [started.enter_context(Service(folder, store=postgresql.url())) for _ in range(2)]
        yield Cluster(postgresql=postgresql, replicas=replicas)


class Worker:
    """One client with a session of its own. It sends each request to any replica."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._random = random.Random(number)
        self._number, self._count = number, 0
        self._clients = cluster.clients()
        self.support: Support = {}
        self.steps = 0
        self._session_id = self._client.create_session().id

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            step = self._random.choice((self._add, self._add, self._replace, self._delete, self._classify))
            with contextlib.suppress(ServiceUnreachable):
                step()
                self._check()
                self.steps += 1

    def check_scores(self) -> None:
        """Every replica scores a query as the stateless call does with the images of this session."""
        query, support = [SAMPLES / "sadness" / "06.jpg"], [*self.support.values()]
        if not support:
            return
        answers = [self._clients[0].classify_by(support, query)]
        answers += [client.classify(self._session_id, query) for client in self._clients]
        expected, *given = (
            {score.label: score.score for score in answer.results[0].faces[0].scores} for answer in answers
        )
        for scores in given:
            assert scores == pytest.approx(expected, abs=1e-3)

    @property
    def _client(self) -> Client:
        """A client of any replica."""
        return self._random.choice(self._clients)

    def _write(self, after: Support, write: Callable[[], object]) -> None:
        """Make the session contain `after`. A write without an answer may have an effect or none."""
        try:
            write()
            self.support = after
        except ServiceUnreachable:
            if self._settled() == _by_class(after):
                self.support = after
            self._check()
            raise

    def _new_example(self) -> tuple[str, Path]:
        """An unused example id and an image file."""
        self._count += 1
        image = f"{self._random.choice(EXPRESSIONS)}/{self._random.randrange(8):02}.jpg"
        return f"{self._number}-{self._count}", SAMPLES / image

    def _add(self) -> None:
        if len(self.support) >= MAX_EXAMPLES:
            return self._delete()
        label = self._random.choice(LABELS)
        new = dict(self._new_example() for _ in range(self._random.randint(1, 2)))
        add = partial(self._client.add_examples, self._session_id, label, [*new.values()], example_ids=[*new])
        return self._write({**self.support, **{name: (label, file) for name, file in new.items()}}, add)

    def _replace(self) -> None:
        label, (_, file) = self._random.choice(LABELS), self._new_example()
        others = {name: entry for name, entry in self.support.items() if entry[0] != label}
        try:
            added = self._client.replace_class(self._session_id, label, [file]).added
            self.support = {**others, added[0].example_id: (label, file)}
        except ServiceUnreachable:
            # The service has chosen the id of the new example.
            held = self._settled().get(label, [])
            if held != _by_class(self.support).get(label, []):
                self.support = {**others, held[0]: (label, file)}
            self._check()
            raise

    def _delete(self) -> None:
        if not self.support:
            return
        name, (label, _) = self._random.choice([*self.support.items()])
        if self._random.random() < 0.5:
            after = {other: entry for other, entry in self.support.items() if other != name}
            self._write(after, partial(self._client.delete_example, self._session_id, label, name))
        else:
            after = {other: entry for other, entry in self.support.items() if entry[0] != label}
            self._write(after, partial(self._client.delete_class, self._session_id, label))

    def _classify(self) -> None:
        classify = partial(self._client.classify, self._session_id, [SAMPLES / "anger" / "05.jpg"])
        if not self.support:
            with pytest.raises(ServiceProblem, match="class"):
                classify()
            return
        nearest = {score.label: score.nearest_example_id for score in classify().results[0].faces[0].scores}
        assert nearest.keys() == {label for label, _ in self.support.values()}
        assert all(self.support[name][0] == label for label, name in nearest.items())

    def _check(self) -> None:
        assert self._held() == _by_class(self.support)

    def _held(self) -> dict[str, list[str]]:
        """Label to example ids, as soon as a replica answers."""
        while True:
            with contextlib.suppress(ServiceUnreachable):
                labels = [entry.label for entry in self._client.get_session(self._session_id).classes]
                return {
                    label: self._client.get_class(self._session_id, label).example_ids for label in labels
                }
            time.sleep(0.05)

    def _settled(self) -> dict[str, list[str]]:
        """As _held, after PostgreSQL has ended the transactions of a killed process."""
        time.sleep(0.3)
        return self._held()


def _by_class(support: Support) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {}
    for name, (label, _) in support.items():
        classes.setdefault(label, []).append(name)
    return classes


def kill_under_load(cluster: Cluster, kills: int) -> None:
    """Kill a replica with -9 while clients work, and start it again. No acknowledged write is lost."""
    workers = [Worker(cluster, number) for number in range(WORKERS)]
    stop = threading.Event()

    def wait_for_steps() -> None:
        """Until every worker has done three more steps."""
        goals = [worker.steps + 3 for worker in workers]
        deadline = time.monotonic() + 60
        while any(worker.steps < goal for worker, goal in zip(workers, goals, strict=True)):
            assert time.monotonic() < deadline
            assert not any(run.done() for run in runs), "a worker has found a fault"
            time.sleep(0.1)

    with ThreadPoolExecutor(WORKERS) as pool:
        runs = [pool.submit(worker.work, stop) for worker in workers]
        try:
            wait_for_steps()
            for kill in range(kills):
                replica = cluster.replicas[kill % len(cluster.replicas)]
                replica.stop(signal.SIGKILL)
                wait_for_steps()
                replica.start()
                replica.wait_until_ready()
                wait_for_steps()
        finally:
            stop.set()
            for run in runs:
                run.result()
    for worker in workers:
        worker.check_scores()
