"""The processes of the scale profile: PostgreSQL, replicas, and HAProxy with the file that compose mounts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.bench.service_process import ServiceProcess, free_port
from tests.deploy.names import Names
from tests.support.postgresql import PostgresqlServer

HAPROXY_CONFIG = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="needs haproxy (Debian's package of that name)")
KEY = "the-key-of-this-test"
SETTINGS = {
    "CSRN_API_KEYS": f"test:{KEY}",
    "CSRN_DEVICE": "cpu",
    "CSRN_DRAIN_S": "2",
    "CSRN_FACE_THREADS": "1",
    "CSRN_NETWORK_THREADS": "1",
}
LIMIT_S = 30


class Replicated:
    """No replica at first. As in Docker, replicas share a port and differ in their address."""

    def __init__(self, folder: Path, *, max_body_bytes: int) -> None:
        self._folder = folder
        self._settings = {**SETTINGS, "CSRN_MAX_BODY_BYTES": str(max_body_bytes)}
        self._port, self._started = free_port(), 0
        self.names = Names()
        self.replicas: list[ServiceProcess] = []
        port, metrics_port = free_port(), free_port()
        self.url, self._metrics_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics"
        with (folder / "haproxy.log").open("w") as log:
            self._balancer = subprocess.Popen(
                [str(HAPROXY), "-db", "-f", HAPROXY_CONFIG],
                env={
                    "CSRN_BIND": f"127.0.0.1:{port}",
                    "CSRN_BALANCER_METRICS": f"127.0.0.1:{metrics_port}",
                    "CSRN_REPLICAS": f"replica:{self._port}",
                    "CSRN_DNS": self.names.place,
                    "CSRN_MAX_BODY_BYTES": str(max_body_bytes),
                },
                stdout=log,
                stderr=log,
            )
        self.postgresql = PostgresqlServer()

    @property
    def balancer_log(self) -> str:
        return (self._folder / "haproxy.log").read_text()

    def client(self) -> httpx.Client:
        """Of the balancer, with a key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)

    def start(self, count: int = 1) -> None:
        """More replicas, which the balancer has found and found ready."""
        added = []
        for _ in range(count):
            self._started += 1
            host = f"127.0.0.{self._started + 1}"
            settings = {**self._settings, "CSRN_STORE": self.postgresql.url()}
            log = self._folder / f"replica-{self._started}.log"
            added.append(ServiceProcess(log, settings, host=host, port=self._port))
        for replica in added:
            replica.wait_until_ready()
        self.replicas += added
        self._tell_names()

    def stop_first(self, how: signal.Signals = signal.SIGTERM) -> int:
        """The exit code of the replica that has been there longest."""
        replica = self.replicas.pop(0)
        code = replica.stop(how)
        self._tell_names()
        return code

    def _tell_names(self) -> None:
        self.names.addresses = {replica.host for replica in self.replicas}
        wait_until(lambda: self.ready_count() == len(self.replicas))

    def ready_count(self) -> int:
        """How many replicas the balancer sends requests to."""
        found = re.findall(r'^haproxy_server_status\{[^}]*state="UP"\} 1$', self._metrics(), re.MULTILINE)
        return len(found)

    def served_by_slot(self) -> list[int]:
        """Requests that each place for a replica has answered with 2xx."""
        pattern = r'^haproxy_server_http_responses_total\{[^}]*code="2xx"\} (\d+)$'
        return [int(count) for count in re.findall(pattern, self._metrics(), re.MULTILINE)]

    def _metrics(self) -> str:
        return httpx.get(self._metrics_url).text

    def stop(self) -> None:
        for replica in self.replicas:
            replica.stop(signal.SIGKILL)
        self._balancer.kill()
        self._balancer.wait(10)
        self.postgresql.remove()
        self.names.close()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.05)
