from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Camera, open_browser
from tests.support.service import Service


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Camera:
    """The camera of the module's browser."""
    return Camera(tmp_path_factory.mktemp("camera"))


@pytest.fixture(scope="module")
def browser(camera: Camera) -> Iterator[Browser]:
    """One browser for a module: each test opens pages of its own in it."""
    with open_browser(camera) as browser:
        yield browser


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service without keys for several modules, whose tests make sessions of their own."""
    with Service(tmp_path_factory.mktemp("service")) as service:
        yield service
