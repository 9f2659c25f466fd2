"""`pip install ./app/client` gives a package that works without the service's code and dependencies."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
USE = """
import importlib.util, sys
sys.path[:0] = sys.argv[1:]
from csrn_client import Client, MissingPackage, ServiceUnreachable
for name in ("app", "model", "torch", "fastapi", "numpy", "PIL", "websockets"):
    assert importlib.util.find_spec(name) is None, name
try:
    Client("http://127.0.0.1:9", retries=0).create_session()
except ServiceUnreachable as error:
    print(error)
class Array:
    __array_interface__ = {"shape": (2, 2), "typestr": "|u1"}
for call in (
    lambda client: client.classify("id", Array()),
    lambda client: next(client.stream("id", [b"image"])),
):
    try:
        call(Client("http://127.0.0.1:9"))
    except MissingPackage as error:
        print(error)
"""


def link_with_dependencies(name: str, folder: Path) -> None:
    """Link an installed distribution and everything it requires into a folder."""
    distribution = importlib.metadata.distribution(name)
    for entry in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        if not (folder / entry).exists():
            (folder / entry).symlink_to(Path(str(distribution.locate_file(entry))))
    for requirement in map(Requirement, distribution.requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            link_with_dependencies(requirement.name, folder)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed client and nothing else."""
    source, target = (tmp_path_factory.mktemp("installed") / name for name in ("source", "target"))
    # A copy, because a build leaves files in the source.
    shutil.copytree(ROOT / "app/client", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", target)
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    return target


def test_the_installed_client_works_with_httpx_and_pydantic_alone(installed: Path, tmp_path: Path) -> None:
    (client,) = importlib.metadata.distributions(path=[str(installed)])
    requirements = [Requirement(requirement) for requirement in client.requires or []]
    names = [requirement.name for requirement in requirements if requirement.marker is None]
    assert names == ["httpx", "pydantic"]
    for name in names:
        link_with_dependencies(name, tmp_path)
    command = [sys.executable, "-I", "-S", "-c", USE, str(installed), str(tmp_path)]
    use = subprocess.run(command, capture_output=True, text=True)
    assert (use.returncode, use.stderr) == (0, "")
    assert "http://127.0.0.1:9/v1/sessions: [Errno 111] Connection refused" in use.stdout
    assert "csrn-client[images]" in use.stdout
    assert "csrn-client[stream]" in use.stdout


def test_the_installed_client_is_complete_and_typed(installed: Path) -> None:
    sources = {file.name for file in (ROOT / "app/client/csrn_client").iterdir() if file.is_file()}
    assert sources == {file.name for file in (installed / "csrn_client").iterdir() if file.is_file()}
    assert "py.typed" in sources


def test_the_client_has_the_version_of_the_service() -> None:
    versions = [
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (".", "app/client")
    ]
    assert versions[0] == versions[1]
