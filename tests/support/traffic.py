"""Clients that use a service behind a proxy while its replicas come and go."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.api import teach
from tests.support.proxied import Proxied
from tests.support.samples import sample_bytes

CLIENTS = 4
KEPT = 5
"""Examples that a client has added and not yet deleted"""


class Traffic:
    """Clients that add, classify and delete, each in its own session. None repeats a failed request."""

    def __init__(self, proxied: Proxied) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self.lost: set[str] = set()
        """Examples whose acknowledged addition or deletion has no effect in the end"""
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
            path, added, deleted = teach(client, {"anger": 1}), set[str](), set[str]()
            of_class = f"{path}/classes/anger"
            for number in itertools.count():
                if self._end.is_set():
                    break
                name, old = str(number), str(number - KEPT)
                image = {"images": sample_bytes("anger", 5) + name.encode()}
                if self._answered(client, "POST", f"{of_class}/examples", image, example_ids=name):
                    added.add(name)
                self._answered(client, "POST", f"{path}/classify", image)
                if old in added:
                    added.remove(old)
                    if self._answered(client, "DELETE", f"{of_class}/examples/{old}"):
                        deleted.add(old)
            held = {*client.get(of_class).json()["example_ids"]}
            self.lost |= (added - held) | (deleted & held)

    def _answered(
        self, client: httpx.Client, method: str, path: str, files: dict[str, bytes] | None = None, **form: str
    ) -> bool:
        try:
            response = client.request(method, path, files=files, data=form)
        except httpx.TransportError as error:
            self.failures.append(repr(error))
            return False
        if not response.is_success:
            self.failures.append(f"{response.status_code} {response.text}")
        self.answered += response.is_success
        return response.is_success
