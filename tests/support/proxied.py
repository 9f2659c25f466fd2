"""The scale profile as processes: PostgreSQL, replicas, and HAProxy with the shipped configuration."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from app.bench.service_process import ServiceProcess, free_port
from tests.support.api import bearer
from tests.support.names import Names
from tests.support.postgresql import PostgresqlServer

HAPROXY_CONFIG = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="needs haproxy (Debian's package of that name)")
KEY = "the-key-of-this-test"
LIMIT_S = 30
OUTAGE_S = 4
"""CSRN_STORE_OUTAGE_S of the replicas"""


class Proxied:
    """HAProxy and the replicas behind it. All replicas use one port, each on an address of its own."""

    def __init__(self, folder: Path, **proxy_settings: str) -> None:
        self._folder, self._port, self._started = folder, free_port(), 0
        self.replicas: list[ServiceProcess] = []
        port, metrics_port = free_port(), free_port()
        self.address = ("127.0.0.1", port)
        self._metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        with contextlib.ExitStack() as stack:
            self._names = Names()
            stack.callback(self._names.close)
            self.postgresql = PostgresqlServer()
            stack.callback(self.postgresql.remove)
            settings = {
                "CSRN_BIND": f"127.0.0.1:{port}",
                "CSRN_PROXY_METRICS": f"127.0.0.1:{metrics_port}",
                "CSRN_SERVICE": f"service:{self._port}",
                "CSRN_DNS": self._names.place,
                **proxy_settings,
            }
            log = stack.enter_context((folder / "haproxy.log").open("w"))
            haproxy = subprocess.Popen([str(HAPROXY), "-db", "-f", HAPROXY_CONFIG], env=settings, stdout=log)
            stack.callback(haproxy.wait, 10)
            stack.callback(haproxy.kill)
            self._stack = stack.pop_all()

    def client(self, url: str | None = None) -> httpx.Client:
        """A client that sends the key, by default to the proxy."""
        url = url or "http://{}:{}".format(*self.address)
        return httpx.Client(base_url=url, headers=bearer(KEY), timeout=30)

    def start(self, count: int) -> None:
        """Start replicas, and wait until the proxy has found them ready."""
        settings = {
            "CSRN_API_KEYS": f"test:{KEY}",
            "CSRN_DEVICE": "cpu",
            "CSRN_DRAIN_S": "2",
            "CSRN_FACE_THREADS": "1",
            "CSRN_NETWORK_THREADS": "1",
            "CSRN_STORE": self.postgresql.url(),
            "CSRN_STORE_OUTAGE_S": str(OUTAGE_S),
        }
        added = []
        for _ in range(count):
            self._started += 1
            log, host = self._folder / f"replica-{self._started}.log", f"127.0.0.{self._started + 1}"
            added.append(ServiceProcess(log, settings, host=host, port=self._port))
        for replica in added:
            replica.wait_until_ready()
        self.replicas += added
        self._update_names()

    def stop_oldest(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop a replica while the proxy still knows it. Returns its exit code."""
        replica = self.replicas.pop(0)
        code = replica.stop(how)
        self._update_names()
        return code

    def close(self) -> None:
        while self.replicas:
            self.replicas.pop().stop(signal.SIGKILL)
        self._stack.close()

    def _update_names(self) -> None:
        self._names.addresses = {replica.host for replica in self.replicas}
        self.wait_until_noticed()

    def wait_until_noticed(self) -> None:
        """Wait until the proxy knows which replicas are ready."""
        deadline = time.monotonic() + LIMIT_S
        while self.ready_count() != len(self.replicas):
            assert time.monotonic() < deadline, "the proxy has not noticed which replicas are ready"
            time.sleep(0.05)

    def ready_count(self) -> int:
        """The number of replicas that the proxy sends requests to."""
        metrics = httpx.get(self._metrics_url).text
        return len(re.findall(r'^haproxy_server_status\{[^}]*state="UP"\} 1$', metrics, re.MULTILINE))
