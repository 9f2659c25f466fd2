"""The service as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.redis_server import free_port

START_LIMIT_S = 60
CSRN = Path(sys.executable).with_name("csrn")


class Service:
    """`csrn serve` on a port of 127.0.0.1; by default with a store of its own in `folder`."""

    def __init__(self, folder: Path, *, store: str | None = None) -> None:
        self.port = free_port()
        self.log = folder / f"serve-{self.port}.log"
        self._store = store or f"sqlite:///{folder}/s.sqlite3"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.start()
        self.wait_until_ready()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [CSRN, "serve", "--port", str(self.port)],
            env={**os.environ, "CSRN_STORE": self._store, "CSRN_DEVICE": "cpu"},
            stderr=self.log.open("a"),
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                raise AssertionError(self.log.read_text())
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self._process.send_signal(how)
        return self._process.wait(30)
