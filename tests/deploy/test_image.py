"""make image-check: the image is built for real, and its command serves a session."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.access.api_keys import new_key
from tests.deploy.built_image import BuiltImage
from tests.deploy.container import Container

pytestmark = pytest.mark.image
TEACH = """
from csrn_client import Client
from pathlib import Path
samples = Path("/opt/csrn/lib/python3.11/site-packages/app/samples")
with Client("http://127.0.0.1:8000", api_key={key!r}) as client:
    session = client.create_session()
    client.add_support(session.id, [(p.parent.name, p) for p in sorted(samples.glob("*/0[0-2].jpg"))])
    print(session.id)
"""
CLASSIFY = """
from csrn_client import Client
from pathlib import Path
sample = Path("/opt/csrn/lib/python3.11/site-packages/app/samples/anger/05.jpg")
with Client("http://127.0.0.1:8000", api_key={key!r}) as client:
    print(client.classify({session!r}, [sample]).results[0].faces[0].predicted)
"""


@pytest.fixture(scope="module")
def image() -> Iterator[BuiltImage]:
    image = BuiltImage()
    yield image
    image.remove()


def test_the_size_by_layer_is_known_and_little_comes_on_top_of_the_locked_wheels(
    image: BuiltImage, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = image.layers_mb()
    with capsys.disabled():
        for name, size in {**layers, "all": sum(layers.values())}.items():
            print(f"\n{size:>6} MB  {name}", end="")
        print()
    assert sum(layers.values()) - layers["dependencies"] <= 350


def test_a_session_is_served_read_only_as_nobody_and_is_there_after_a_restart(
    image: BuiltImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, entry = new_key("test")
    container = Container(image, tmp_path, secrets={"csrn_api_keys": entry})
    ready_s = container.wait_until_healthy()
    with capsys.disabled():
        print(f"\nfrom start to ready: {ready_s:.1f} s")
    taught = container.execute(["python", "-c", TEACH.format(key=key)])
    classify = ["python", "-c", CLASSIFY.format(key=key, session=taught.stdout.strip())]
    assert container.execute(classify).stdout == "anger\n", container.log
    status = container.execute(["cat", "/proc/self/status"]).stdout
    assert re.search("^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
    assert re.search("^CapBnd:\t0+$", status, re.MULTILINE)
    assert container.execute(["touch", "/opt/csrn/x"]).returncode != 0
    assert "me:sha256:" in container.execute(["csrn", "key", "me"]).stdout
    assert container.stop() == 0

    container = Container(image, tmp_path, secrets={})
    container.wait_until_healthy()
    assert container.execute(classify).stdout == "anger\n", container.log
    assert container.stop() == 0
    assert "no CUDA device is found: the network runs on the CPU" in container.log


def test_without_a_key_it_refuses_and_says_how_to_make_one(image: BuiltImage, tmp_path: Path) -> None:
    container = Container(image, tmp_path, secrets={})
    assert container.exit_code() == 1
    assert "csrn key NAME" in container.log


def test_the_image_says_what_it_is_and_runs_as_a_user_without_rights(image: BuiltImage) -> None:
    assert image.config["User"] == "10001:10001"
    assert image.config["Entrypoint"][0] == "tini"
    assert list(image.config["Volumes"]) == ["/data"]
    labels = {name.removeprefix("org.opencontainers.image.") for name in image.config["Labels"]}
    assert {"title", "description", "licenses", "version", "revision"} <= labels


def test_no_compiler_cache_secret_or_tool_of_development_is_left(image: BuiltImage) -> None:
    programs = {
        path.name
        for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/csrn/bin")
        for path in (image.root / folder).iterdir()
    }
    assert not programs & {"cc", "gcc", "c++", "g++", "make", "ld", "pip", "pip3", "debootstrap"}
    for cache in ("root/.cache", "var/lib/apt/lists", "var/cache/apt/archives", "build", "opt/pip"):
        assert not [*(image.root / cache).glob("**/*")], cache
    for secret in ("etc/pip.conf", "etc/apt/apt.conf.d/90build", "run/secrets/ca"):
        place = image.root / secret
        assert not place.exists() or place.stat().st_size == 0, secret
    installed = {found.name for found in importlib.metadata.distributions(path=[str(image.packages)])}
    assert not installed & {
        "pip",
        "pytest",
        "mypy",
        "ruff",
        "hypothesis",
        "playwright",
        "scikit-image",
        "scipy",
    }
    assert {"torch", "mediapipe", "prometheus_client", "opentelemetry-sdk"} <= installed
