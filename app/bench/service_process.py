"""csrn serve as a process of its own on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from model.errors import CsrnError

START_LIMIT_S = 60
CSRN = (sys.executable, "-m", "app.cli")
"""The csrn command, also where it is not installed"""


class ServiceFailed(CsrnError):
    """The service did not become ready. The message is its log."""


class ServiceProcess:
    """A service that starts at once. As a context manager it is ready on entry and stopped on exit."""

    def __init__(
        self,
        log: Path,
        env: Mapping[str, str],
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        csrn: Sequence[str] = CSRN,
    ) -> None:
        """Start the service.

        Args: env, environment variables in addition to those of this process; port, by default a free one;
            csrn, the command that starts csrn.
        """
        self.host, self.port = host, port or free_port()
        self.url = f"http://{self.host}:{self.port}"
        self._log, self._env = log, {**os.environ, **env}
        self._command = [*csrn, "serve", "--host", self.host, "--port", str(self.port)]
        self.start()

    def __enter__(self) -> Self:
        self.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log_text(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start the service, or start it again on the same port after it was stopped."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, env=self._env, stdout=log, stderr=log)  # noqa: S603

    def wait_until_ready(self) -> None:
        """Raises: ServiceFailed."""
        deadline = time.monotonic() + START_LIMIT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                raise ServiceFailed(f"the service does not start: {self.log_text}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait(self, limit_s: float) -> int:
        """Wait until the process ends by itself. Returns its exit code. Raises: subprocess.TimeoutExpired."""
        return self._process.wait(limit_s)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the process and wait until it ends. Returns its exit code."""
        self._process.send_signal(how)
        return self._process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
