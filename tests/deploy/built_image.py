"""The image, built from the Dockerfile by buildah on a base that debootstrap makes."""

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
BASE, TAG = "localhost/debian:bookworm-slim", "csrn-serve:check"
NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")


class BuiltImage:
    """Built in a folder of about 20 GB, which `remove` deletes."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="csrn-image-"))
        try:
            self._make_base()
            self._build()
            container = self._buildah("from", "--pull-never", TAG)
            self.root = Path(self._buildah("mount", container))
            self.config: dict[str, Any] = json.loads(self._buildah("inspect", container))["Docker"]["config"]
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        shutil.rmtree(self._folder)

    @property
    def packages(self) -> Path:
        return self.root / "opt/csrn/lib/python3.11/site-packages"

    def size_mb(self, folder: str = "") -> int:
        """Size of the files of a folder of the image, each counted once."""
        options = ("--summarize", "--apparent-size", "--block-size=1000000")
        return int(_output("du", *options, self.root / folder).split()[0])

    def _buildah(self, *arguments: str | Path) -> str:
        storage = ("--root", self._folder / "storage", "--runroot", self._folder / "run")
        # Temporary files go into the folder, too.
        env = {**os.environ, "TMPDIR": str(self._folder)}
        return _output("buildah", "--storage-driver", "vfs", *storage, *arguments, env=env)

    def _make_base(self) -> None:
        """Make what debian:bookworm-slim is: a minimal Debian without documentation."""
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
        # One commit for each stage, because vfs copies the whole tree for each commit.
        options = ["--isolation", "chroot", "--format", "docker", "--layers=false"]
        for name, file in self._secrets().items():
            options += ["--secret", f"id={name},src={file}"]
        if index := os.environ.get("TORCH_INDEX"):
            options += ["--build-arg", f"TORCH_INDEX={index}"]
        self._buildah("build", "--pull-never", *options, "--tag", TAG, ".")

    def _secrets(self) -> dict[str, Path]:
        """This machine's package index and its CA, passed on as docs/deployment.md describes."""
        lines = (
            line.split("=", 1) for line in _output(sys.executable, "-m", "pip", "config", "list").splitlines()
        )
        configured = {name.rpartition(".")[2]: value.strip("'") for name, value in lines}
        settings = {name: configured[name] for name in ("index-url", "cert") if name in configured}
        secrets = {}
        if "cert" in settings:
            secrets["ca"] = Path(settings["cert"])
            settings["cert"] = "/run/secrets/ca"
        if settings:
            secrets["pip_conf"] = self._folder / "pip.conf"
            entries = [f"{name} = {value}\n" for name, value in settings.items()]
            secrets["pip_conf"].write_text("[global]\n" + "".join(entries))
        return secrets


def _output(*command: str | Path, env: dict[str, str] | None = None) -> str:
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    return ran.stdout.strip()
