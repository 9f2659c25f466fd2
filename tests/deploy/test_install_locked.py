"""deploy/install-locked, with the real pip on a package index in a folder, and with the real lock."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.deploy.built_image import ROOT

SCRIPT = ROOT / "deploy" / "install-locked"
LOCK = (ROOT / "requirements.lock").read_text()
PIP = (sys.executable, "-m", "pip")


def make_wheel(index: Path, name: str, version: str) -> str:
    """Add a wheel with one module, which states its version, to a package index. Returns its hash."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def install(folder: Path, lock: str, torch_index: str, *pip: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a lock file. Packages go to folder/installed; pip's own index is folder/index."""
    (folder / "requirements.lock").write_text(lock)
    env = {
        "PATH": os.environ["PATH"],
        "PIP_TARGET": str(folder / "installed"),
        "PIP_INDEX_URL": (folder / "index").as_uri(),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return subprocess.run([SCRIPT, torch_index, *pip], cwd=folder, env=env, capture_output=True, text=True)


def installed(folder: Path) -> dict[str, str]:
    modules = (folder / "installed").glob("*.py")
    return {module.stem: module.read_text().split("'")[1] for module in modules}


def test_torch_comes_from_the_cpu_index_and_the_rest_from_pips_with_hashes(tmp_path: Path) -> None:
    lock = "# made by make lock\n"
    for name, version in (
        ("plain", "1.0"),
        ("torch", "2.15.0"),
        ("torchvision", "0.29.2"),
        ("triton", "3.9.0"),
    ):
        digest = make_wheel(tmp_path / "index", name, version)
        lock += f"{name}=={version} ; sys_platform == 'linux' \\\n    --hash=sha256:{digest}\n"
    make_wheel(tmp_path / "cpu", "torch", "2.15.0+cpu")
    make_wheel(tmp_path / "cpu", "torchvision", "0.29.2+cpu")
    ended = install(tmp_path, lock, (tmp_path / "cpu").as_uri(), *PIP)
    assert ended.returncode == 0, ended.stderr
    assert installed(tmp_path) == {"plain": "1.0", "torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu"}


def test_without_a_cpu_index_every_file_needs_the_hash_of_the_lock(tmp_path: Path) -> None:
    digest = make_wheel(tmp_path / "index", "torch", "2.15.0")
    ended = install(tmp_path, f"torch==2.15.0 --hash=sha256:{digest}\n", "", *PIP)
    assert ended.returncode == 0, ended.stderr
    assert installed(tmp_path) == {"torch": "2.15.0"}
    ended = install(tmp_path, f"torch==2.15.0 --hash=sha256:{'0' * 64}\n", "", *PIP)
    assert ended.returncode != 0
    assert "DO NOT MATCH THE HASHES" in ended.stderr


def test_of_the_real_lock_only_torch_and_cuda_are_left_out(tmp_path: Path) -> None:
    recorder = tmp_path / "pip"
    recorder.write_text('#!/bin/sh\necho "$*" >> calls\n[ "$3" != --require-hashes ] || cat "$5" > asked\n')
    recorder.chmod(0o755)
    assert install(tmp_path, LOCK, "URL", str(recorder)).returncode == 0
    asked = (tmp_path / "asked").read_text()
    left_out = set(re.findall(r"^[a-z][^=]*", LOCK, re.M)) - set(re.findall(r"^[a-z][^=]*", asked, re.M))
    cuda = {name for name in left_out if name.startswith(("nvidia-", "cuda-"))}
    assert left_out == {"torch", "torchvision", "triton", *cuda}
    assert len(cuda) > 10
    assert [line for line in asked.splitlines() if line not in LOCK.splitlines()] == []
    torch, torchvision = re.findall(r"^torch(?:vision)?==\S+", LOCK, re.M)
    second = (tmp_path / "calls").read_text().splitlines()[1]
    assert second == f"install --no-deps --index-url URL {torch} {torchvision}"


def test_make_passes_the_cpu_index_on() -> None:
    env = {"PATH": os.environ["PATH"]}
    command = ["make", "--dry-run", "--always-make", "serve", f"PYTHON={sys.executable}"]
    for options, index in (([], ""), (["TORCH_INDEX=URL"], "URL")):
        steps = subprocess.run([*command, *options], cwd=ROOT, env=env, capture_output=True, text=True).stdout
        assert f'deploy/install-locked "{index}" .venv/bin/python -m pip\n' in steps
