"""The service as a process of its own, with a client, and the other csrn commands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from app.bench.service_process import CSRN, ServiceProcess


class Service(ServiceProcess):
    """A service that is ready once it is made. By default its session store is in `folder`."""

    def __init__(
        self, folder: Path, *, store: str | None = None, csrn: Sequence[str | Path] = (CSRN,), **env: str
    ) -> None:
        """env: further settings."""
        store = store or f"sqlite:///{folder}/s.sqlite3"
        super().__init__(folder / "serve.log", {"CSRN_STORE": store, "CSRN_DEVICE": "cpu", **env}, csrn=csrn)
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.wait_until_ready()


def csrn(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a csrn command to its end. env: further environment variables."""
    command = [CSRN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
