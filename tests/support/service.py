"""The service as a process of its own, with a client, and the other csrn commands."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from app.bench.service_process import CSRN, ServiceProcess
from tests.support.api import image
from tests.support.samples import SAMPLES


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

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        # The service waits for open connections before it ends.
        self.client.close()
        self.client = httpx.Client(base_url=self.url, timeout=30)
        return super().stop(how)


def teach(client: httpx.Client, labels: Sequence[str], shots: int, folder: Path = SAMPLES) -> str:
    """Create a session with the first images of each label in a folder. Returns the path of the session."""
    path: str = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
    images = [(folder / label / f"{index:02}.jpg").read_bytes() for label in labels for index in range(shots)]
    response = client.post(
        f"{path}/support",
        files=[image(data) for data in images],
        data={"labels": [label for label in labels for _ in range(shots)]},
    )
    assert response.status_code == 201, response.text
    return path


def csrn(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a csrn command to its end. env: further environment variables."""
    command = [CSRN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
