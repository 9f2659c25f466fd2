"""A container of the built image, run by bubblewrap with the restrictions that compose asks of Docker."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.built_image import BuiltImage

START_LIMIT_S = 120


class Container:
    """The image's command, run as its user, without capabilities, on a read-only root and its own network."""

    def __init__(self, image: BuiltImage, folder: Path, *, secrets: dict[str, str]) -> None:
        """folder: holds /data, which outlives the container; secrets: the files of /run/secrets."""
        self._image = image
        self._data, self._secrets, self._log = folder / "data", folder / "secrets", folder / "log"
        self._user, self._group = image.config["User"].split(":")
        for place in (self._data, self._secrets):
            place.mkdir(exist_ok=True)
        os.chown(self._data, int(self._user), int(self._group))
        for name, text in secrets.items():
            (self._secrets / name).write_text(text)
        with self._log.open("a") as log:
            command = [*image.config["Entrypoint"], *image.config["Cmd"]]
            isolated = self._sandbox("--unshare-net")
            self._process = subprocess.Popen([*isolated, *command], stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the container's network, as docker exec does."""
        network = f"--net=/proc/{self._pid_inside()}/ns/net"
        joined = ["nsenter", network, *self._sandbox(), *command]
        return subprocess.run(joined, capture_output=True, text=True, timeout=START_LIMIT_S)

    def wait_until_healthy(self) -> float:
        """Wait for the image's own health check. Returns the seconds since this call."""
        began = time.monotonic()
        _, *check = self._image.config["Healthcheck"]["Test"]
        while self.execute(check).returncode != 0:
            assert self._process.poll() is None, self.log
            assert time.monotonic() - began < START_LIMIT_S, self.log
            time.sleep(0.1)
        return time.monotonic() - began

    def exit_code(self) -> int:
        """Wait for the command to end. Returns its exit code."""
        return self._process.wait(START_LIMIT_S)

    def stop(self) -> int:
        """Stop it as docker stop does. Returns its exit code."""
        os.kill(self._pid_inside(), signal.SIGTERM)
        return self.exit_code()

    def _pid_inside(self) -> int:
        """The process of the command itself, a descendant of bubblewrap."""
        pid = self._process.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() != "bwrap":
                break
            pid = int(children[0])
        return pid

    def _sandbox(self, *options: str) -> list[str | Path]:
        variables = [
            part for entry in self._image.config["Env"] for part in ("--setenv", *entry.split("=", 1))
        ]
        return [
            *("bwrap", "--die-with-parent", "--clearenv", "--ro-bind", self._image.root, "/"),
            *("--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"),
            *("--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run"),
            *("--ro-bind", self._secrets, "/run/secrets", "--bind", self._data, "/data"),
            *("--chdir", self._image.config["WorkingDir"], *variables, *options, "--"),
            *("setpriv", f"--reuid={self._user}", f"--regid={self._group}", "--clear-groups"),
            *("--bounding-set=-all", "--no-new-privs"),
        ]
