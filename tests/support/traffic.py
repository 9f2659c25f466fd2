"""Clients that use a service behind a proxy while its replicas come and go."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.proxied import Proxied
from tests.support.samples import sample_bytes

CLIENTS = 4


class Traffic:
    """Clients that add examples and classify, each in a session of its own; none repeats a failed request."""

    def __init__(self, proxied: Proxied) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self.lost: set[str] = set()
        """Acknowledged examples that are not in their session in the end"""
        self._proxied, self._end = proxied, threading.Event()

    def __enter__(self) -> Traffic:
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._runs = [self._pool.submit(self._run) for _ in range(CLIENTS)]
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for run in self._runs:
            run.result()
        self._pool.shutdown()

    def wait_for_more(self) -> None:
        """Returns once more requests have been answered."""
        until, deadline = self.answered + 10 * CLIENTS, time.monotonic() + 30
        while self.answered < until:
            assert not any(run.done() for run in self._runs), "a client has stopped"
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.02)

    def _run(self) -> None:
        with self._proxied.client() as client:
            path, acknowledged = new_session(client), set[str]()
            for name in map(str, itertools.count()):
                if self._end.is_set():
                    break
                if self._answered(client, f"{path}/classes/anger/examples", name, example_ids=name):
                    acknowledged.add(name)
                self._answered(client, f"{path}/classify", name)
            self.lost |= acknowledged - {*client.get(f"{path}/classes/anger").json()["example_ids"]}

    def _answered(self, client: httpx.Client, path: str, name: str, **fields: str) -> bool:
        image = sample_bytes("anger", 5) + name.encode()
        try:
            response = client.post(path, files={"images": image}, data=fields)
        except httpx.TransportError as error:
            self.failures.append(repr(error))
            return False
        if not response.is_success:
            self.failures.append(f"{response.status_code} {response.text}")
        self.answered += response.is_success
        return response.is_success


def new_session(client: httpx.Client) -> str:
    """The path of a session with one example."""
    path = "/v1/sessions/" + str(client.post("/v1/sessions").json()["id"])
    images = {"images": sample_bytes("anger", 0)}
    assert client.post(f"{path}/classes/anger/examples", files=images).status_code == 201
    return path
