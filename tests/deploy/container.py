"""A container of the built image, by bubblewrap: what compose asks of Docker, without its daemon."""

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
    """The image's command, as its user, without capabilities, on a root file system that cannot be written.

    Has a network of its own, with nothing but a loopback.
    """

    def __init__(self, image: BuiltImage, folder: Path, *, secrets: dict[str, str]) -> None:
        """folder: /data lies there; secrets: the files of /run/secrets."""
        self._image = image
        self._data, self._secrets, self._log = folder / "data", folder / "secrets", folder / "log"
        for place in (self._data, self._secrets):
            place.mkdir(exist_ok=True)
        os.chown(self._data, *self._user)
        for name, text in secrets.items():
            (self._secrets / name).write_text(text)
        self._process = self._popen([*image.config["Entrypoint"], *image.config["Cmd"]], network=None)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def _user(self) -> tuple[int, int]:
        user, group = self._image.config["User"].split(":")
        return int(user), int(group)

    def execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """As docker exec: beside the image's command, in its network."""
        process = self._popen(command, network=self._pid_inside())
        out, _ = process.communicate(timeout=START_LIMIT_S)
        return subprocess.CompletedProcess(command, process.returncode, out)

    def healthy(self) -> bool:
        """By the image's own health check."""
        _, *command = self._image.config["Healthcheck"]["Test"]
        return self.execute(command).returncode == 0

    def wait_until_healthy(self) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        while not self.healthy():
            assert self._process.poll() is None, self.log
            assert time.monotonic() - began < START_LIMIT_S, self.log
            time.sleep(0.1)
        return time.monotonic() - began

    def exit_code(self) -> int:
        """Of a command that ends by itself."""
        return self._process.wait(START_LIMIT_S)

    def stop(self) -> int:
        """As docker stop. Its exit code."""
        os.kill(self._pid_inside(), signal.SIGTERM)
        return self.exit_code()

    def _pid_inside(self) -> int:
        """Of the command itself; bubblewrap is its parent's parent."""
        pid = self._process.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name not in ("bwrap", "nsenter"):
                break
            pid = int(children[0])
        return pid

    def _popen(self, command: Sequence[str], *, network: int | None) -> subprocess.Popen[str]:
        user, group = self._user
        variables = [variable.split("=", 1) for variable in self._image.config["Env"]]
        sandbox: list[str | Path] = [
            *("bwrap", "--die-with-parent", "--clearenv", "--ro-bind", self._image.root, "/"),
            *("--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"),
            *("--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run"),
            *("--ro-bind", self._secrets, "/run/secrets", "--bind", self._data, "/data"),
            *("--chdir", self._image.config["WorkingDir"]),
        ]
        for name, value in variables:
            sandbox += ["--setenv", name, value]
        sandbox += ["--unshare-net"] if network is None else []
        as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        as_user += ["--bounding-set=-all", "--no-new-privs"]
        joined = [] if network is None else ["nsenter", f"--net=/proc/{network}/ns/net"]
        with self._log.open("a") as log:
            return subprocess.Popen(
                [*joined, *sandbox, "--", *as_user, *command],
                stdout=log if network is None else subprocess.PIPE,
                stderr=log,
                text=True,
            )
