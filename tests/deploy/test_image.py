"""make image-check: the image is built, and its command serves a session."""

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
ADD_EXAMPLES = """
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
FOR_DEVELOPMENT = {"pip", "pytest", "mypy", "ruff", "hypothesis", "playwright", "scikit-image", "scipy"}
FOR_BUILDING = {"cc", "gcc", "c++", "g++", "make", "ld", "pip", "pip3", "debootstrap"}


@pytest.fixture(scope="module")
def image() -> Iterator[BuiltImage]:
    image = BuiltImage()
    yield image
    image.remove()


def test_it_serves_a_session_without_rights_and_again_after_a_restart(
    image: BuiltImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, entry = new_key("test")
    container = Container(image, tmp_path, secrets={"csrn_api_keys": entry})
    ready_s = container.wait_until_healthy()
    size_mb, packages_mb = image.size_mb(), image.size_mb("opt/csrn")
    with capsys.disabled():
        print(f"\n{size_mb} MB, {packages_mb} MB of it packages; ready in {ready_s:.1f} s")
    session = container.execute(["python", "-c", ADD_EXAMPLES.format(key=key)]).stdout.strip()
    classify = ["python", "-c", CLASSIFY.format(key=key, session=session)]
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


def test_without_a_key_it_refuses_and_says_how_to_make_one(image: BuiltImage, tmp_path: Path) -> None:
    container = Container(image, tmp_path, secrets={})
    assert container.exit_code() == 1
    assert "csrn key NAME" in container.log


def test_it_contains_no_compiler_cache_secret_or_development_tool(image: BuiltImage) -> None:
    folders = ("usr/bin", "usr/sbin", "usr/local/bin", "opt/csrn/bin")
    assert not FOR_BUILDING & {path.name for folder in folders for path in (image.root / folder).iterdir()}
    for cache in ("root/.cache", "var/lib/apt/lists", "var/cache/apt/archives", "build", "opt/pip"):
        assert not [*(image.root / cache).glob("**/*")], cache
    for secret in ("etc/pip.conf", "etc/apt/apt.conf.d/90build", "run/secrets/ca"):
        place = image.root / secret
        assert not place.exists() or place.stat().st_size == 0, secret
    installed = {found.name for found in importlib.metadata.distributions(path=[str(image.packages)])}
    assert not FOR_DEVELOPMENT & installed
    assert {"torch", "mediapipe", "prometheus_client", "opentelemetry-sdk"} <= installed
    # Debian, Python and the application are small beside the locked packages.
    application = sum(image.size_mb(str(image.packages / name)) for name in ("app", "model", "weights"))
    assert image.size_mb() - image.size_mb("opt/csrn") + application <= 350
