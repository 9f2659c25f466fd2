"""How the API refuses requests, and how /openapi.json describes that."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.formparsers import MultiPartParser

from tests.support.api import assert_problem, image, sample
from tests.support.samples import sample_bytes


def test_every_error_is_described_as_a_problem(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for path in schema["paths"].values():
        for operation in path.values():
            for status in ("4XX", "5XX", "429", "503"):
                assert [*operation["responses"][status]["content"]] == ["application/problem+json"]
            for status in ("429", "503"):
                assert "Retry-After" in operation["responses"][status]["headers"]
    schemas = schema["components"]["schemas"]
    codes = schemas["Problem"]["properties"]["code"]["enum"]
    assert {"image_unreadable", "no_face", "model_changed", "not_ready"} <= set(codes)
    assert "Seconds until" in schemas["NewSession"]["properties"]["ttl_s"]["description"]


def test_malformed_requests_are_refused_with_the_documented_codes(client: TestClient, taught: str) -> None:
    face, post = [sample("anger", 0)], client.post
    for response, status, code in (
        (post(f"{taught}/support", files=face), 422, "invalid_label"),
        (post(f"{taught}/support", files=face, data={"labels": ["a", "b"]}), 422, "invalid_label"),
        (post(f"{taught}/classify", files=[("other", ("f", b"x", ""))]), 422, "no_images"),
        (post(f"{taught}/classify", json={}), 422, "no_images"),
        (post(f"{taught}/classify", data={"top_k": "1"}), 415, "unsupported_media_type"),
        (post(f"{taught}/classify", files=face, data={"unknown_below": "2"}), 422, "invalid_request"),
        (post("/v1/sessions", data={"name": "x"}), 415, "unsupported_media_type"),
        (post("/v1/sessions", json={"ttl_s": -1}), 422, "invalid_request"),
        (post("/v1/sessions/nope/classify", files=face), 404, "session_not_found"),
        (client.put("/v1/sessions/nope/classes/a", files=face), 404, "session_not_found"),
        (client.get(f"{taught}/classes/nope"), 404, "class_not_found"),
        (client.get("/nowhere"), 404, "not_found"),
        (client.put("/v1/model"), 405, "method_not_allowed"),
    ):
        assert_problem(response, status, code)


def test_a_refused_method_is_answered_with_all_methods_of_the_address(
    client: TestClient, session: str
) -> None:
    for path, methods in (
        ("/v1/sessions", {"GET", "POST"}),
        (session, {"DELETE", "GET", "PATCH"}),
        ("/v1/sessions/import", {"DELETE", "GET", "PATCH", "POST"}),
        (f"{session}/classes/a", {"DELETE", "GET", "PATCH", "PUT"}),
        ("/docs", {"GET"}),
        ("/page/page.js", {"GET", "HEAD"}),
    ):
        refused = client.options(path)
        assert_problem(refused, 405, "method_not_allowed")
        assert set(refused.headers["allow"].split(", ")) == methods


def test_without_enabled_classes_title_and_detail_agree(client: TestClient, taught: str) -> None:
    query = [sample("anger", 3)]
    empty = client.post("/v1/sessions").json()["id"]
    for entry in client.get(taught).json()["classes"]:
        client.patch(f"{taught}/classes/{entry['label']}", json={"enabled": False})
    for path, detail in (
        (f"/v1/sessions/{empty}", "has no classes: add examples first"),
        (taught, "disabled"),
    ):
        refused = client.post(f"{path}/classify", files=query)
        assert_problem(refused, 422, "no_classes")
        assert refused.json()["title"] == "The session has no class to compare with"
        assert detail in refused.json()["detail"]


def test_problems_say_what_to_do(client: TestClient, session: str) -> None:
    face, path = [sample("anger", 0)], f"{session}/classes/a/examples"
    forgotten = client.post(path, files=[("other", ("f", b"", ""))], data={"images": "x.jpg"})
    assert_problem(forgotten, 422, "no_images")
    assert "send a file part" in forgotten.json()["detail"]
    client.post(path, files=face, data={"example_ids": ["mine"]})
    assert "mine is taken" in client.post(path, files=face, data={"example_ids": ["mine"]}).json()["detail"]
    headers = {"content-type": "multipart/form-data"}
    assert_problem(client.post(path, content=b"x", headers=headers), 422, "invalid_request")


def chunks(start: bytes, size: int) -> Iterator[bytes]:
    """A body without Content-Length."""
    yield start
    for _ in range(size // 2**16 + 1):
        yield b"x" * 2**16


@pytest.mark.parametrize(
    ("path", "content_type", "start", "limit"),
    [
        (
            "nope/classify",
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n',
            2**20,
        ),
        ("import", "application/octet-stream", b"", 2**20),
        ("", "application/json", b'{"name": "', 2**16),
    ],
)
def test_a_body_over_its_limit_is_refused(
    client: TestClient, path: str, content_type: str, start: bytes, limit: int
) -> None:
    for body in (start + b"x" * (limit + 1), chunks(start, limit)):
        url = f"/v1/sessions/{path}".rstrip("/")
        response = client.post(url, content=body, headers={"content-type": content_type})
        assert_problem(response, 413, "body_too_large")


def test_a_form_over_its_limits_is_refused(client: TestClient, session: str) -> None:
    face, support = [sample("anger", 0)], f"{session}/support"
    large = [image(sample_bytes("anger", 0).ljust(2**19 + 1, b"\0"))]
    for response in (
        client.post(support, files=[image(b"x") for _ in range(41)], data={"labels": ["a"] * 41}),
        client.post(support, files=face, data={"labels": ["a"] * 100}),
        client.post(support, files=face, data={"labels": ["a" * 5000]}),
        client.post(f"{session}/classify", files=large),
        client.post(f"{session}/classes/new/examples", files=large),
    ):
        assert_problem(response, 413, "body_too_large")
    # Data after the image, such as a phone's video, does no harm.
    added = client.post(f"{session}/classes/new/examples", files=[image(large[0][1][1][:-1])])
    assert added.status_code == 201


def test_a_problem_lists_a_limited_number_of_wrong_fields(client: TestClient) -> None:
    few = ",".join(f'"{index}":[]' for index in range(5_000))
    headers = {"content-type": "application/json"}
    response = client.post("/v1/sessions", content=f"{{{few}}}", headers=headers)
    assert_problem(response, 422, "invalid_request")
    assert len(response.content) < 10_000
    long_name = client.post("/v1/sessions", content=f'{{"{"a" * 60_000}": 1}}', headers=headers)
    assert_problem(long_name, 422, "invalid_request")
    assert len(long_name.content) < 1_000


def test_without_disk_space_for_a_body_the_service_is_not_ready(
    client: TestClient, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MultiPartParser, "spool_max_size", 1)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    refused = client.post(f"{session}/classify", files=[sample("anger", 0)])
    assert_problem(refused, 503, "not_ready")
