"""The service as a process of its own, with a client, and the other csrn commands."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from app.bench.service_process import CSRN, ServiceProcess


class Service(ServiceProcess):
    """A service that is ready once it is made. Its session store is in `folder`."""

    def __init__(self, folder: Path, *, csrn: Sequence[str] = CSRN, **env: str) -> None:
        """env: further settings."""
        store = {"CSRN_STORE": f"sqlite:///{folder}/s.sqlite3", "CSRN_DEVICE": "cpu"}
        super().__init__(folder / "serve.log", {**store, **env}, csrn=csrn)
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.wait_until_ready()

    def __exit__(self, *_: object) -> None:
        # A graceful shutdown takes seconds, and has a test of its own.
        self.stop(signal.SIGKILL)


def csrn(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a csrn command to its end. env: further environment variables."""
    command = [*CSRN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
