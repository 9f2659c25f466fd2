"""Services that are reached over the network: a process of its own or a thread; and the csrn commands."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

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


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of a service on a thread of this process, which starts much faster than a process."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def csrn(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a csrn command to its end. env: further environment variables."""
    command = [*CSRN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
