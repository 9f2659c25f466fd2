"""The image, built from the Dockerfile as it is: by buildah, on a base that debootstrap makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE = "localhost/debian:bookworm-slim"
TAG = "csrn-serve:check"
NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
APPLICATION = ("app", "model", "weights")


class BuiltImage:
    """In a folder of its own, which `remove` deletes: some 20 GB while the image is built."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="csrn-image-"))
        try:
            self._make_base()
            self._build()
            container = self._buildah("from", "--pull-never", TAG)
            self.root = Path(self._buildah("mount", container))
            inspected: dict[str, Any] = json.loads(self._buildah("inspect", container))
        except BaseException:
            self.remove()
            raise
        self.config: dict[str, Any] = inspected["Docker"]["config"]

    def remove(self) -> None:
        shutil.rmtree(self._folder)

    @property
    def packages(self) -> Path:
        return self.root / "opt/csrn/lib/python3.11/site-packages"

    def layers_mb(self) -> dict[str, int]:
        """What the base and each COPY of the last stage bring."""
        application = sum(size_mb(self.packages / name) for name in APPLICATION)
        environment = size_mb(self.root / "opt/csrn")
        return {
            "Debian and Python": size_mb(self.root) - environment,
            "dependencies": environment - application,
            "application": application,
        }

    def _buildah(self, *arguments: str | Path) -> str:
        command: list[str | Path] = ["buildah", "--storage-driver", "vfs"]
        command += ["--root", self._folder / "storage", "--runroot", self._folder / "run", *arguments]
        # What it puts aside for a while goes with the folder, too.
        env = {**os.environ, "TMPDIR": str(self._folder)}
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
        return ran.stdout.strip()

    def _make_base(self) -> None:
        """What debian:bookworm-slim is: a minimal Debian without its manuals."""
        tree = self._folder / "base"
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", tree], check=True, stdout=sys.stderr)
        for unwanted in NOT_IN_SLIM:
            shutil.rmtree(tree / unwanted)
            (tree / unwanted).mkdir()
        container = self._buildah("from", "scratch")
        self._buildah("copy", "--quiet", container, tree, "/")
        self._buildah("commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(tree)

    def _build(self) -> None:
        # One commit a stage: vfs copies the whole tree for each.
        options: list[str | Path] = ["--isolation", "chroot", "--format", "docker", "--layers=false"]
        for name, file in self._secrets().items():
            options += ["--secret", f"id={name},src={file}"]
        for name in ("VERSION", "REVISION", "TORCH_INDEX"):
            if value := os.environ.get(name):
                options += ["--build-arg", f"{name}={value}"]
        self._buildah("build", "--pull-never", *options, "--tag", TAG, ".")

    def _secrets(self) -> dict[str, Path]:
        """What pip uses on this machine, the mirror and its CA, as docs/deployment.md says to pass it on."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True
        )
        entries = (line.split("=", 1) for line in listed.stdout.splitlines())
        configured = {name.rpartition(".")[2]: value.strip("'") for name, value in entries}
        settings = {name: configured[name] for name in ("index-url", "cert") if name in configured}
        secrets = {}
        if "cert" in settings:
            secrets["ca"] = Path(settings["cert"])
            settings["cert"] = "/run/secrets/ca"
        if settings:
            secrets["pip_conf"] = self._folder / "pip.conf"
            lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
            secrets["pip_conf"].write_text("\n".join(lines) + "\n")
        return secrets


def size_mb(folder: Path) -> int:
    """Of the files in it, each counted once."""
    counted = subprocess.run(
        ["du", "--summarize", "--apparent-size", "--block-size=1000000", folder],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(counted.stdout.split()[0])
