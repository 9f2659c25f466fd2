"""A PostgreSQL server from Debian's package, started by the tests."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from app.bench.service_process import free_port

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=Path("initdb")).parent
needs_postgresql = pytest.mark.skipif(
    not (PROGRAMS / "initdb").is_file(), reason="needs PostgreSQL (Debian's package postgresql)"
)
PASSWORD = "a-password-of-the-tests"
START_LIMIT_S = 30
# PostgreSQL refuses to run as root, so it runs as the user that Debian's package creates.
AS_USER = (
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] if os.geteuid() == 0 else []
)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Survives killed processes, though not a power cut.
    "fsync": "off",
}


class PostgresqlServer:
    """A server on a free port of 127.0.0.1, with its files in a temporary folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="csrn-postgresql-"))
        self._data, password = self.folder / "data", self.folder / "password"
        password.write_text(PASSWORD)
        if AS_USER:
            for path in (self.folder, password):
                shutil.chown(path, "postgres", "postgres")
        access = (f"--pwfile={password}", "--username=csrn", "--auth=scram-sha-256")
        options = ("-D", str(self._data), "--no-sync", "--encoding=UTF8", "--locale=C", *access)
        subprocess.run(
            [*AS_USER, str(PROGRAMS / "initdb"), *options], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
        self._port = free_port()
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://csrn:{PASSWORD}@127.0.0.1:{self._port}/{database}"

    def new_database(self, folder: Path | None = None) -> str:
        """The URL of an empty database. Its tables are in `folder`, if given."""
        name = f"test_{secrets.token_hex(6)}"
        if folder is None:
            self.execute(f"CREATE DATABASE {name}")
        else:
            if AS_USER:
                shutil.chown(folder, "postgres", "postgres")
            self.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
            self.execute(f"CREATE DATABASE {name} TABLESPACE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that has its own folder."""
        name = url.rsplit("/", 1)[1]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self.execute(f"DROP TABLESPACE {name}")

    def execute(self, statement: str, url: str | None = None) -> None:
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start or restart the server, always on the same port."""
        deadline = time.monotonic() + START_LIMIT_S
        self._spawn()
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                if self._process.poll() is not None:
                    self._spawn()  # processes of the killed server were still ending
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(how)
        self._process.wait(30)

    def pause(self) -> None:
        """Let it hang: it keeps its connections but does not answer."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)

    def _spawn(self) -> None:
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        options = ("-D", str(self._data), "-p", str(self._port), *settings)
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [*AS_USER, str(PROGRAMS / "postgres"), *options], stdout=log, stderr=log, cwd="/"
            )

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *map(int, children.split())]
