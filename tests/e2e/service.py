"""The service as a process of its own, with a client."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import httpx

from app.bench.service_process import CSRN, ServiceProcess


class Service(ServiceProcess):
    """Ready when made; by default with a store of its own in `folder`."""

    def __init__(
        self, folder: Path, *, store: str | None = None, csrn: Sequence[str | Path] = (CSRN,), **env: str
    ) -> None:
        """env: further settings."""
        store = store or f"sqlite:///{folder}/s.sqlite3"
        super().__init__(folder / "serve.log", {"CSRN_STORE": store, "CSRN_DEVICE": "cpu", **env}, csrn=csrn)
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.wait_until_ready()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        # A connection that is kept would be waited for.
        self.client.close()
        self.client = httpx.Client(base_url=self.url, timeout=30)
        return super().stop(how)
