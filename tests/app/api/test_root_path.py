"""CSRN_ROOT_PATH: a proxy serves the service below a path, which it passes on or removes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp

from app.api.root_path import RootPath
from app.main import create_app
from app.settings import OWN_PATHS, Settings
from tests.support.api import LOCAL, assert_problem, bearer, new_session, settings
from tests.support.samples import sample_bytes

KEY = bearer("key-of-ann")


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    configured = settings(
        weights, tmp_path_factory.mktemp("store"), api_keys="ann:key-of-ann", root_path="/faces"
    )
    served: ASGIApp = RootPath(create_app(configured), root_path=configured.root_path)
    with TestClient(served, headers=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/faces/v1/sessions",
        "/v1/sessions",
        "/faces/faces/v1/sessions",
        "//v1/sessions",
        "/faces//v1/sessions",
        "//faces/v1/sessions",
        "/%66aces/v1/sessions",
        "/faces%2Fv1/sessions",
        "/faces/%761/sessions",
        "/FACES/v1/sessions",
        "/facesv1/sessions",
        "/faces/./v1/sessions",
        "/faces/../v1/sessions",
        "/x/../v1/sessions",
    ],
)
def test_no_spelling_of_a_path_avoids_the_key(client: TestClient, path: str) -> None:
    refused = client.post(f"http://127.0.0.1{path}")
    assert refused.status_code in (401, 404, 405), refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    with_key = client.post(f"http://127.0.0.1{path}", headers=KEY)
    assert (with_key.status_code == 201) == (refused.status_code == 401)


def test_everything_is_served_with_and_without_the_root_path(client: TestClient) -> None:
    for root in ("", "/faces"):
        for path in ("/", "/livez", "/readyz", "/docs", "/openapi.json", "/samples", "/page/page.js"):
            assert client.get(f"{root}{path}").status_code == 200, root + path
        path = new_session(client, headers=KEY)
        assert client.get(f"{root}{path}", headers=KEY).status_code == 200
        with client.websocket_connect(f"{root}{path}/stream", headers=KEY) as socket:
            socket.send_bytes(sample_bytes("anger", 4))
            assert socket.receive_json()["index"] == 0
        with client.websocket_connect(f"{root}{path}/stream") as socket:
            assert socket.receive()["code"] == 4401
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/faces"}]
    moved = client.get("/faces?a=b", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (307, "/faces/")


def test_metrics_are_not_published_below_the_root_path(client: TestClient) -> None:
    assert client.get("/metrics").status_code == 200
    assert_problem(client.get("/faces/metrics"), 404, "not_found")


@pytest.mark.parametrize(
    "root", ["faces", "/faces?", "/a//b", "https://a.example/faces", "/fa ces", "/v1", "/docs/x"]
)
def test_a_root_path_that_cannot_be_served_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="expected a path such as /faces"):
        Settings(root_path=root)


def test_a_root_path_may_end_with_a_slash_and_have_several_parts() -> None:
    assert [Settings(root_path=root).root_path for root in ("/a/b-c/", "/", "")] == ["/a/b-c", "", ""]


def test_no_root_path_can_hide_a_path_of_the_service(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {path.split("/")[1] for path in paths} | {"page", "docs", "openapi.json"} == OWN_PATHS
