"""Images arrive in forms, in JSON, and alone; wrong requests are refused and never ignored."""

from __future__ import annotations

import base64
import gc
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.support.api import assert_problem, image, new_session, sample
from tests.support.samples import sample_bytes

FACE = sample_bytes("anger", 5)
TEXT = base64.b64encode(FACE).decode()
DATA_URL = f"data:image/jpeg;base64,{TEXT}"
JSON_TYPE = {"content-type": "application/json"}
IMAGE_BODY = {"content": FACE, "headers": {"content-type": "image/jpeg"}}


def scores(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["results"]


def base64_of(expression: str, index: int) -> str:
    return base64.b64encode(sample_bytes(expression, index)).decode()


def test_an_image_is_classified_alike_whatever_the_content_type(client: TestClient, taught: str) -> None:
    path = f"{taught}/classify"
    form = scores(client.post(path, files=[("images", ("f", FACE))]))
    lines = base64.encodebytes(FACE).decode()
    for text in (TEXT, DATA_URL, f"DATA:image/JPEG;BASE64,{TEXT}", lines, DATA_URL.replace("/", "\\/")):
        body = f'{{"images": ["{text}"]}}'.replace("\n", "\\n")
        found = scores(client.post(path, content=body, headers=JSON_TYPE))
        assert found == [{**form[0], "filename": None}]
    assert scores(client.post(path, **IMAGE_BODY)) == [{**form[0], "filename": None}]


@pytest.mark.parametrize("in_query", [False, True])
def test_options_are_in_the_form_the_json_or_the_query(
    client: TestClient, taught: str, in_query: bool
) -> None:
    path = f"{taught}/classify"
    texts = {"unknown_below": "1", "all_faces": "true", "top_k": "2", "regions": "true"}
    values = {"unknown_below": 1, "all_faces": True, "top_k": 2, "regions": True}
    if in_query:
        requests: list[dict[str, Any]] = [
            {"files": [image(FACE)], "params": texts},
            {"json": {"images": [TEXT]}, "params": texts},
            {**IMAGE_BODY, "params": texts},
        ]
    else:
        requests = [{"files": [image(FACE)], "data": texts}, {"json": {"images": [TEXT], **values}}]
    for request in requests:
        body = client.post(path, **request).json()
        (face,) = body["results"][0]["faces"]
        assert (body["unknown_below"], face["predicted"], len(face["scores"])) == (1, None, 2)
        assert "regions" in face


def test_top_k_leaves_prediction_and_margin_as_they_are(client: TestClient, taught: str) -> None:
    (every,) = scores(client.post(f"{taught}/classify", json={"images": [TEXT]}))[0]["faces"]
    for top_k in (1, 3, 100):
        (best,) = scores(client.post(f"{taught}/classify", json={"images": [TEXT], "top_k": top_k}))[0][
            "faces"
        ]
        assert best == {**every, "scores": every["scores"][:top_k]}
    with client.websocket_connect(f"{taught}/stream?top_k=1") as stream:
        stream.send_bytes(FACE)
        (face,) = stream.receive_json()["faces"]
        assert len(face["scores"]) == 1
        assert face["margin"] > 0


def test_examples_can_be_sent_as_json(client: TestClient, session: str) -> None:
    first, second, third = (base64_of("anger", index) for index in range(3))
    added = client.post(f"{session}/support", json={"images": [first, second], "labels": ["a", "b"]})
    assert [item["label"] for item in added.json()["added"]] == ["a", "b"]
    body = {"images": [third], "example_ids": ["mine"]}
    assert client.post(f"{session}/classes/a/examples", json=body).status_code == 201
    assert client.get(f"{session}/classes/a").json()["example_ids"][1] == "mine"
    replaced = client.put(f"{session}/classes/b", json={"images": [f"data:image/jpeg;base64,{third}"]})
    assert replaced.status_code in (200, 422)
    stateless = {"support": [first, second], "labels": ["a", "b"], "images": [TEXT, TEXT], "top_k": 1}
    assert len(scores(client.post("/v1/classify", json=stateless))) == 2


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"images": []}, "no_images", "images"),
        ({"images": "text"}, "invalid_request", "images"),
        ({"images": ["no base64!"]}, "invalid_request", "images.0"),
        ({"images": [TEXT, TEXT[:-1]], "labels": ["a", "b"]}, "invalid_request", "images.1"),
        ({"images": [TEXT, 7]}, "invalid_request", "images.1"),
        ({"images": ["data:image/jpeg,abc"]}, "invalid_request", "images.0"),
        ({"images": ["data:image/jpeg;base64"]}, "invalid_request", "images.0"),
        ({"images": [None]}, "invalid_request", "images.0"),
        ({"labels": None}, "invalid_label", "labels"),
        ({"labels": ["a\u0007"]}, "invalid_label", "labels.0"),
        ({"labels": ["a", "b"]}, "invalid_label", None),
        ({"label": "a"}, "invalid_request", "label"),
        ({"imagess": []}, "invalid_request", "imagess"),
    ],
)
def test_wrong_json_is_refused_and_names_the_member(
    client: TestClient, session: str, change: dict[str, Any], code: str, field: str | None
) -> None:
    body = {"images": [TEXT], "labels": ["a"], **change}
    refused = client.post(f"{session}/support", json=body)
    assert_problem(refused, 422, code)
    errors = refused.json().get("errors", [])
    assert [error["field"] for error in errors[:1]] == ([field] if field else [])
    assert TEXT not in refused.text


@pytest.mark.parametrize(
    "wrong",
    [{"all_faces": "true"}, {"unknown_below": "0.5"}, {"top_k": 0}, {"top_k": 1.5}, {"unknown_below": 2}],
)
def test_json_values_have_their_own_types(client: TestClient, taught: str, wrong: dict[str, Any]) -> None:
    assert_problem(
        client.post(f"{taught}/classify", json={"images": [TEXT], **wrong}), 422, "invalid_request"
    )


def test_settings_have_their_own_types(client: TestClient, taught: str) -> None:
    for refused in (
        client.post("/v1/sessions", json={"ttl_s": "60"}),
        client.patch(taught, json={"ttl_s": "60"}),
        client.patch(f"{taught}/classes/anger", json={"enabled": "false"}),
        client.patch(f"{taught}/classes/anger", json={"enabled": 0}),
    ):
        assert_problem(refused, 422, "invalid_request")


def test_a_body_that_is_no_json_is_refused(client: TestClient, taught: str) -> None:
    for content in (b"", b"{", b"[]", b"null", b'{"images": ["\xff"]}', b"[" * 4000):
        refused = client.post(f"{taught}/classify", content=content, headers=JSON_TYPE)
        assert_problem(refused, 422, "invalid_request")


@pytest.mark.parametrize(
    "content", [b'{\n"', "{}".encode("utf-16"), "{}".encode("utf-16-le"), b"\xef\xbb\xbf{}"]
)
def test_every_call_says_in_the_same_words_that_a_body_is_no_json(
    client: TestClient, taught: str, content: bytes
) -> None:
    for method, path in (
        ("POST", "/v1/sessions"),
        ("PATCH", taught),
        ("PATCH", f"{taught}/classes/anger"),
        ("POST", f"{taught}/classify"),
        ("PUT", f"{taught}/classes/anger"),
    ):
        refused = client.request(method, path, content=content, headers=JSON_TYPE)
        assert_problem(refused, 422, "invalid_request")
        (error,) = refused.json()["errors"]
        assert (error["field"], error["detail"]) == ("", refused.json()["detail"])
        assert error["detail"].startswith("the body is not valid JSON")
        if content.startswith(b"{\n"):
            assert "line 2 column" in error["detail"]


def test_calls_that_take_json_say_which_content_type_and_body_they_need(
    client: TestClient, taught: str
) -> None:
    patched = client.patch(taught, content=b'{"name": "n"}', headers={"content-type": "Application/JSON"})
    assert (patched.status_code, patched.json()["name"]) == (200, "n")
    for request in (
        client.build_request("PATCH", taught, content=b"{}"),
        client.build_request("PATCH", taught, data={"name": "x"}),
        client.build_request("POST", "/v1/sessions", content=b'{"name": "x"}'),
        client.build_request("POST", "/v1/sessions", data={"name": "x"}),
    ):
        refused = client.send(request)
        assert_problem(refused, 415, "unsupported_media_type")
        needed = "send the content type application/json"
        optional = ", or no body" if request.method == "POST" else ""
        assert refused.json()["detail"] == needed + optional
    for path in (taught, f"{taught}/classes/anger"):
        for headers in ({}, JSON_TYPE):
            refused = client.patch(path, headers=headers)
            assert_problem(refused, 422, "invalid_request")
            assert refused.json()["detail"] == "the body is missing: send a JSON object"
    assert client.post("/v1/sessions", headers=JSON_TYPE).status_code == 201


Request = Callable[[TestClient, str], httpx.Response]
UNKNOWN: dict[str, Request] = {
    "form of classify": lambda c, s: c.post(f"{s}/classify", files=[image(FACE)], data={"other": "1"}),
    "empty field of a form": lambda c, s: c.post(f"{s}/classify", files=[image(FACE)], data={"other": ""}),
    "empty file of a form": lambda c, s: c.post(
        f"{s}/classify", files=[image(FACE), ("other", ("", b"", "application/octet-stream"))]
    ),
    "field that is sent twice": lambda c, s: c.post(
        f"{s}/classify", files=[image(FACE)], data={"other": ["1", "2"]}
    ),
    "file of a form": lambda c, s: c.post(f"{s}/classify", files=[image(FACE), image(FACE, field="other")]),
    "form of support": lambda c, s: c.post(
        f"{s}/support", files=[image(FACE)], data={"labels": "a", "other": "1"}
    ),
    "form of examples": lambda c, s: c.post(
        f"{s}/classes/a/examples", files=[image(FACE)], data={"other": "a"}
    ),
    "form of PUT": lambda c, s: c.put(f"{s}/classes/a", files=[image(FACE)], data={"other": "a"}),
    "JSON of PUT": lambda c, s: c.put(f"{s}/classes/a", json={"images": [TEXT], "other": 1}),
    "JSON of classify": lambda c, s: c.post(f"{s}/classify", json={"images": [TEXT], "other": 1}),
    "JSON of stateless": lambda c, s: c.post(
        "/v1/classify", json={"support": [TEXT], "labels": ["a"], "images": [TEXT], "other": 1}
    ),
    "JSON of a session": lambda c, s: c.post("/v1/sessions", json={"other": 1}),
    "JSON of a session's change": lambda c, s: c.patch(s, json={"other": 1}),
    "JSON of a class's change": lambda c, s: c.patch(f"{s}/classes/anger", json={"other": 1}),
    "form of an import": lambda c, s: c.post("/v1/sessions/import", files=[image(b"x", field="other")]),
    "query of classify": lambda c, s: c.post(f"{s}/classify?other=1", files=[image(FACE)]),
    "query beside one image": lambda c, s: c.post(f"{s}/classify?other=1", **IMAGE_BODY),
    "query of POST": lambda c, s: c.post("/v1/sessions?other=1"),
    "query of the list": lambda c, s: c.get("/v1/sessions?limit=1&other=1"),
    "query of GET": lambda c, s: c.get(f"{s}?other=1"),
    "query of DELETE": lambda c, s: c.delete(f"{s}/classes/anger?other"),
    "query of PATCH": lambda c, s: c.patch(f"{s}?other=1", json={"name": "n"}),
    "query of PATCH of a class": lambda c, s: c.patch(f"{s}/classes/anger?other=1", json={"enabled": False}),
    "query of quality": lambda c, s: c.get(f"{s}/quality?other="),
    "query of export": lambda c, s: c.get(f"{s}/export?other=1"),
    "query of import": lambda c, s: c.post("/v1/sessions/import?other=1", content=b""),
    "query of stateless": lambda c, s: c.post("/v1/classify?other=1"),
    "query of the model": lambda c, s: c.get("/v1/model?other=1"),
    "query of health": lambda c, s: c.get("/readyz?other=1"),
    "query of metrics": lambda c, s: c.get("/metrics?other=1"),
    "query of samples": lambda c, s: c.get("/samples?other=1"),
}


@pytest.mark.parametrize("request_of", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_field_or_parameter_is_refused_and_named(
    client: TestClient, taught: str, request_of: Request
) -> None:
    before = client.get(taught).json()
    refused = request_of(client, taught)
    assert_problem(refused, 422, "invalid_request")
    assert "other: the request has no field or parameter of this name" in refused.json()["detail"]
    assert client.get(taught).json() == before


def test_a_value_that_is_sent_twice_is_refused(client: TestClient, taught: str) -> None:
    twice, once_empty = {"top_k": ["1", "2"]}, {"top_k": ["", "1"]}
    for refused in (
        client.get("/v1/sessions?limit=1&limit=2"),
        client.post(f"{taught}/classify", files=[image(FACE)], data=twice),
        client.post(f"{taught}/classify", files=[image(FACE)], data=once_empty),
        client.post(f"{taught}/classify", files=[image(FACE)], params=twice),
        client.post(f"{taught}/classify", files=[image(FACE)], data={"top_k": "1"}, params={"top_k": "1"}),
        client.post(f"{taught}/classify", json={"images": [TEXT], "top_k": 1}, params={"top_k": "1"}),
    ):
        assert_problem(refused, 422, "invalid_request")
        assert refused.json()["detail"].startswith(("limit: ", "top_k: "))


def test_an_empty_option_of_a_form_counts_as_left_out(client: TestClient, taught: str) -> None:
    empty = dict.fromkeys(("unknown_below", "top_k", "regions", "all_faces"), "")
    (result,) = scores(client.post(f"{taught}/classify", files=[image(FACE)], data=empty))
    assert [result] == scores(client.post(f"{taught}/classify", files=[image(FACE)]))


def test_each_image_needs_one_label_and_one_id(client: TestClient, session: str) -> None:
    stateless = {"support": [TEXT], "labels": ["a", "b"], "images": [TEXT]}
    for path, body, code, detail in (
        (
            "support",
            {"labels": ["a", "b"]},
            "invalid_label",
            "send one label for each image: 1 image, 2 labels",
        ),
        ("support", {"labels": []}, "invalid_label", "send one label for each image: 1 image, 0 labels"),
        (
            "classes/a/examples",
            {"example_ids": []},
            "invalid_request",
            "send one example id for each image: 1 image, 0 ids",
        ),
        (
            "/v1/classify",
            stateless,
            "invalid_label",
            "send one label for each support image: 1 image, 2 labels",
        ),
    ):
        url = path if path.startswith("/") else f"{session}/{path}"
        refused = client.post(url, json={"images": [TEXT], **body})
        assert_problem(refused, 422, code)
        assert refused.json()["detail"].endswith(detail)


def test_a_missing_support_set_is_reported_like_missing_images(client: TestClient) -> None:
    body = {"images": [TEXT], "labels": []}
    for sent in (body, {**body, "support": []}):
        refused = client.post("/v1/classify", json=sent)
        assert_problem(refused, 422, "no_images")
        assert refused.json()["errors"][0]["field"] == "support"


def test_pages_ignore_parameters_that_links_carry(client: TestClient) -> None:
    for path in ("/", "/docs", "/page/icon.svg"):
        assert client.get(f"{path}?utm_source=mail").status_code == 200


def test_other_content_types_are_refused_with_those_that_work(client: TestClient, taught: str) -> None:
    for path, works in (
        (f"{taught}/classify", "image/jpeg"),
        ("/v1/classify", "multipart/form-data or application/json"),
        (f"{taught}/support", "multipart/form-data or application/json"),
    ):
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "image/gif", ""):
            refused = client.post(path, content=FACE, headers={"content-type": content_type})
            assert_problem(refused, 415, "unsupported_media_type")
            assert works in refused.json()["detail"]
    assert_problem(client.post("/v1/classify", **IMAGE_BODY), 415, "unsupported_media_type")


def test_images_are_limited_in_size_and_number_in_every_content_type(client: TestClient, taught: str) -> None:
    path, large = f"{taught}/classify", FACE.ljust(2**19 + 1, b"\0")
    text = base64.b64encode(large).decode()
    small = ["/9g="] * 41
    for refused, detail in (
        (client.post(path, json={"images": [text]}), "an image has at most"),
        (client.post(path, json={"images": small}), "at most 40 images"),
        (client.post(path, content=large, headers={"content-type": "image/jpeg"}), "an image has at most"),
        (client.post(path, json={"images": [[] for _ in range(9000)]}), "too many members"),
        (client.post(path, content=b'{"images": ["' + b"\\/" * 20_000, headers=JSON_TYPE), "or escapes"),
        (client.post(path, content=b"x" * (2**20 + 1), headers={"content-type": "image/png"}), "too large"),
    ):
        assert_problem(refused, 413, "body_too_large")
        assert detail in refused.json()["detail"]


def test_an_empty_or_unreadable_image_is_unreadable_in_every_content_type(
    client: TestClient, taught: str
) -> None:
    path = f"{taught}/classify"
    for data in (b"", b"text"):
        headers = {"content-type": "image/png"}
        assert_problem(client.post(path, content=data, headers=headers), 400, "image_unreadable")
        body = {"images": [base64.b64encode(data).decode()]}
        assert_problem(client.post(path, json=body), 400, "image_unreadable")


def test_the_temporary_files_of_a_form_are_closed(client: TestClient) -> None:
    path = new_session(client)
    large = [image(FACE), ("labels", (None, b"a")), ("labels", (None, b"b"))]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        unraisable: list[object] = []
        for files in ([sample("anger", 0)], large, [image(FACE, field="other")], [image(FACE)] * 41):
            client.post(f"{path}/support", files=files)
        gc.collect()
        assert not unraisable


def test_parameters_of_a_stream_that_are_not_as_documented_close_it(client: TestClient, taught: str) -> None:
    for query in ("other=1", "top_k=0", "top_k=1&top_k=2", "unknown_below=2"):
        with client.websocket_connect(f"{taught}/stream?{query}", subprotocols=["csrn.v1"]) as stream:
            assert stream.accepted_subprotocol == "csrn.v1"
            message = stream.receive()
        assert (message["code"], message["reason"]) == (4422, "invalid_request")
