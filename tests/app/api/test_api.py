from __future__ import annotations

import asyncio
import concurrent.futures
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app.main import create_app
from app.settings import Settings
from tests.conftest import EXPRESSIONS, LOCAL, encoded, no_face, sample_bytes, sample_image, two_faces
from tests.fuzz.bombs import BOMBS
from tests.support.networks import save_full_checkpoint

Part = tuple[str, tuple[str, bytes, str]]


def image(data: bytes, name: str = "face.jpg", field: str = "images") -> Part:
    return (field, (name, data, "image/jpeg"))


def sample(expression: str, index: int, field: str = "images") -> Part:
    return image(sample_bytes(expression, index), f"{expression}-{index}.jpg", field)


def settings(weights: Path, folder: Path, **changes: Any) -> Settings:
    return Settings(weights=weights, store=f"sqlite:///{folder}/s.sqlite3", device="cpu", **changes)


LIMITS = {"max_body_bytes": 2**20, "max_images": 40, "max_image_bytes": 2**19}


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(settings(weights, tmp_path_factory.mktemp("store"), **LIMITS))
    with TestClient(app, headers=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def session(client: TestClient) -> str:
    session_id: str = client.post("/v1/sessions", json={"name": "test"}).json()["id"]
    return f"/v1/sessions/{session_id}"


@pytest.fixture
def taught(client: TestClient, session: str) -> str:
    files = [sample(expression, index) for expression in EXPRESSIONS for index in range(2)]
    labels = [expression for expression in EXPRESSIONS for _ in range(2)]
    response = client.post(f"{session}/support", files=files, data={"labels": labels})
    assert response.status_code == 201
    return session


def assert_problem(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= problem.keys()


def test_a_session_starts_empty_and_can_be_listed_and_deleted(client: TestClient) -> None:
    created = client.post("/v1/sessions", json={"name": "a", "ttl_s": 60, "metadata": {"k": "v"}})
    assert created.status_code == 201
    body = created.json()
    assert (body["name"], body["metadata"], body["classes"], body["revision"]) == ("a", {"k": "v"}, [], 0)
    assert body["expires_at"] > body["created_at"]
    path = f"/v1/sessions/{body['id']}"
    assert client.get(path).json() == body
    listed, cursor = [], None
    while True:
        page = client.get(
            "/v1/sessions", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        listed += page["sessions"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert body in listed
    assert client.delete(path).status_code == 204
    assert_problem(client.get(path), 404, "session_not_found")
    assert_problem(client.delete(path), 404, "session_not_found")


def test_a_session_can_be_created_without_a_body(client: TestClient) -> None:
    assert client.post("/v1/sessions").status_code == 201


def test_taught_classes_are_scored_for_each_query(client: TestClient, taught: str) -> None:
    files = [sample(expression, 5) for expression in EXPRESSIONS]
    body = client.post(f"{taught}/classify", files=files).json()
    assert body["model"] == {"weights_sha256": client.get(taught).json()["weights_sha256"]}
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3]
    for result in body["results"]:
        (face,) = result["faces"]
        assert "error" not in result
        scores = [score["score"] for score in face["scores"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert {score["label"] for score in face["scores"]} == set(EXPRESSIONS)
        assert all(set(score["parts"]) == {"face", "eyes", "lips", "prototype"} for score in face["scores"])
        assert face["predicted"] == face["scores"][0]["label"]
        assert face["margin"] == pytest.approx(scores[0] - scores[1])
        assert set(face["box"]) == {"x_min", "y_min", "x_max", "y_max"}
    assert {"faces", "network", "total"} <= body["timings_ms"].keys()


def test_the_stateless_answer_is_the_sessions_answer(client: TestClient, taught: str) -> None:
    support = [sample(e, i, "support") for e in EXPRESSIONS for i in range(2)]
    labels = [e for e in EXPRESSIONS for _ in range(2)]
    query = [sample("anger", 6)]
    stateless = client.post("/v1/classify", files=support + query, data={"labels": labels}).json()
    session = client.post(f"{taught}/classify", files=query).json()
    ours, theirs = (body["results"][0]["faces"][0]["scores"] for body in (stateless, session))
    assert [score["label"] for score in ours] == [score["label"] for score in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_regions_are_told_where_they_are_asked_for(client: TestClient, taught: str) -> None:
    path, query = f"{taught}/classify", [sample("anger", 5)]
    (plain,) = client.post(path, files=query).json()["results"][0]["faces"]
    assert plain.keys() == {"box", "predicted", "scores", "margin"}
    (face,) = client.post(path, files=query, data={"regions": "true"}).json()["results"][0]["faces"]
    centers = {
        part: [sum(side) / 4 for side in zip(*corners, strict=True)]
        for part, corners in face["regions"].items()
    }
    box = face["box"]
    for x, y in centers.values():
        assert box["x_min"] < x < box["x_max"]
        assert box["y_min"] < y < box["y_max"]
    assert centers["eyes"][1] < centers["face"][1] < centers["lips"][1]


def test_predicted_is_null_where_no_class_reaches_unknown_below(client: TestClient, taught: str) -> None:
    response = client.post(f"{taught}/classify", files=[sample("anger", 5)], data={"unknown_below": "1"})
    face = response.json()["results"][0]["faces"][0]
    assert face["predicted"] is None
    assert len(face["scores"]) == 4


def test_all_faces_answers_for_each_largest_first(client: TestClient, taught: str) -> None:
    query = [image(two_faces())]
    one = client.post(f"{taught}/classify", files=query).json()["results"][0]["faces"]
    both = client.post(f"{taught}/classify", files=query, data={"all_faces": "true"}).json()["results"][0]
    assert (len(one), len(both["faces"])) == (1, 2)
    assert both["faces"][0]["box"] == one[0]["box"]


def test_a_query_without_a_face_is_answered_with_none(client: TestClient, taught: str) -> None:
    response = client.post(f"{taught}/classify", files=[image(no_face())])
    assert response.status_code == 200
    assert response.json()["results"][0]["faces"] == []


def test_an_unreadable_query_among_several_carries_its_error(client: TestClient, taught: str) -> None:
    files = [sample("anger", 5), image(b"text", "notes.jpg")]
    response = client.post(f"{taught}/classify", files=files)
    assert response.status_code == 200
    good, bad = response.json()["results"]
    assert len(good["faces"]) == 1
    assert bad["error"]["code"] == "image_unreadable"
    assert bad["filename"] == "notes.jpg"


@pytest.mark.parametrize("data", [b"just text", b"", sample_bytes("anger", 0)[:500]])
def test_an_unreadable_image_is_refused_and_nothing_is_kept(
    client: TestClient, taught: str, data: bytes
) -> None:
    before = client.get(taught).json()
    assert_problem(client.post(f"{taught}/classify", files=[image(data)]), 400, "image_unreadable")
    response = client.post(f"{taught}/support", files=[image(data)], data={"labels": ["new"]})
    assert_problem(response, 422, "image_unreadable")
    assert response.json()["rejected"][0]["code"] == "image_unreadable"
    assert client.get(taught).json() == before


@pytest.mark.parametrize(("data", "code"), [(no_face(), "no_face"), (two_faces(), "several_faces")])
def test_a_support_image_must_show_one_face(client: TestClient, taught: str, data: bytes, code: str) -> None:
    before = client.get(taught).json()
    for path, form in (("support", {"labels": ["new"]}), ("classes/new/examples", {})):
        assert_problem(client.post(f"{taught}/{path}", files=[image(data)], data=form), 422, code)
    assert_problem(client.put(f"{taught}/classes/anger", files=[image(data)]), 422, code)
    assert client.get(taught).json() == before


def test_usable_images_are_added_beside_rejected_ones(client: TestClient, session: str) -> None:
    files = [image(no_face()), sample("anger", 0), image(b"text")]
    response = client.post(f"{session}/support", files=files, data={"labels": ["a", "b", "c"]})
    assert response.status_code == 201
    body = response.json()
    assert [(item["index"], item["label"]) for item in body["added"]] == [(1, "b")]
    assert [(item["index"], item["code"]) for item in body["rejected"]] == [
        (0, "no_face"),
        (2, "image_unreadable"),
    ]
    assert body["session"]["classes"] == [{"label": "b", "examples": 1}]


def test_malformed_requests_get_the_contracts_errors(client: TestClient, taught: str) -> None:
    face = [sample("anger", 0)]
    post = client.post
    assert_problem(post(f"{taught}/support", files=face), 422, "invalid_label")
    assert_problem(post(f"{taught}/support", files=face, data={"labels": ["a", "b"]}), 422, "invalid_label")
    assert_problem(post(f"{taught}/support", files=face, data={"labels": [" "]}), 422, "invalid_label")
    assert_problem(post(f"{taught}/support", files=face, data={"labels": ["x" * 65]}), 422, "invalid_label")
    assert_problem(post(f"{taught}/support", files=face, data={"labels": ["a\x07"]}), 422, "invalid_label")
    assert_problem(post(f"{taught}/classify", files=[("other", ("f", b"x", ""))]), 422, "no_images")
    assert_problem(post(f"{taught}/classify", json={}), 415, "unsupported_media_type")
    assert_problem(post("/v1/sessions", data={"name": "x"}), 415, "unsupported_media_type")
    assert_problem(post("/v1/sessions", json={"ttl_s": -1}), 422, "invalid_request")
    assert_problem(post("/v1/sessions/nope/classify", files=face), 404, "session_not_found")
    assert_problem(
        post("/v1/sessions/nope/support", files=face, data={"labels": ["a"]}), 404, "session_not_found"
    )
    assert_problem(client.get(f"{taught}/classes/nope"), 404, "class_not_found")
    assert_problem(client.get("/nowhere"), 404, "not_found")
    assert_problem(client.put("/v1/model"), 405, "method_not_allowed")
    assert_problem(
        post(f"{taught}/classify", files=face, data={"unknown_below": "2"}), 422, "invalid_request"
    )


def test_classifying_without_classes_is_refused(client: TestClient, session: str) -> None:
    assert_problem(client.post(f"{session}/classify", files=[sample("anger", 0)]), 422, "no_classes")


def test_bodies_over_the_limit_are_refused(client: TestClient, session: str) -> None:
    big = [image(b"x" * 2**20)]
    assert_problem(client.post(f"{session}/classify", files=big), 413, "body_too_large")
    start = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    chunks = (start if index == 0 else b"x" * 2**16 for index in range(40))
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post(f"{session}/classify", content=chunks, headers=headers)
    assert_problem(response, 413, "body_too_large")
    many = [image(b"x") for _ in range(41)]
    assert_problem(client.post(f"{session}/classes/a/examples", files=many), 413, "body_too_large")


def test_an_image_over_its_limit_of_bytes_is_too_large(client: TestClient, taught: str) -> None:
    large = [image(sample_bytes("anger", 0).ljust(2**19 + 1, b"\0"))]
    assert_problem(client.post(f"{taught}/classify", files=large), 413, "body_too_large")
    assert_problem(client.post(f"{taught}/classes/new/examples", files=large), 413, "body_too_large")
    # What lies behind a photo, such as a phone's video, does not harm it.
    assert client.post(f"{taught}/classify", files=[image(large[0][1][1][:-1])]).status_code == 200


@pytest.mark.parametrize(
    ("bomb", "detail"),
    [
        ("PNG of 1.6 gigapixels", "40000 x 40000 pixels are more than"),
        ("progressive JPEG of 200 megapixels", "16000 x 12500 pixels are more than"),
        ("JPEG of a long line", "65500 x 16 pixels: one side is too short"),
        ("WebP of endless sides", "pixels are more than"),
        ("animation", "an animation"),
    ],
)
def test_a_hostile_image_or_an_animation_is_unreadable_and_says_why(
    client: TestClient, taught: str, bomb: str, detail: str
) -> None:
    frames = {"save_all": True, "append_images": [sample_image("anger", 1)]}
    data = encoded(sample_image("anger", 0), "WEBP", **frames) if bomb == "animation" else BOMBS[bomb][1]()
    response = client.post(f"{taught}/classify", files=[image(data)])
    assert_problem(response, 400, "image_unreadable")
    assert detail in response.json()["detail"]


def test_classes_and_examples_are_kept_one_by_one(client: TestClient, session: str) -> None:
    path = f"{session}/classes/%E7%AC%91%2F%20a"
    files = [sample("happiness", index) for index in range(2)]
    added = client.post(f"{path}/examples", files=files, data={"example_ids": ["o:1", "two"]})
    assert added.status_code == 201
    assert client.get(path).json() == {"label": "笑/ a", "examples": 2, "example_ids": ["o:1", "two"]}
    again = client.post(f"{path}/examples", files=[sample("happiness", 3)], data={"example_ids": ["two"]})
    assert_problem(again, 409, "example_exists")
    assert client.get(session).json()["revision"] == 1
    assert client.delete(f"{path}/examples/o%3A1").status_code == 204
    assert_problem(client.delete(f"{path}/examples/o%3A1"), 404, "example_not_found")
    replaced = client.put(path, files=[sample("happiness", 4)])
    assert replaced.status_code == 200
    assert client.get(path).json()["example_ids"] == [replaced.json()["added"][0]["example_id"]]
    assert client.delete(path).status_code == 204
    assert client.get(session).json()["classes"] == []


def test_a_classify_after_a_write_sees_it(client: TestClient, taught: str) -> None:
    def labels() -> set[str]:
        body = client.post(f"{taught}/classify", files=[sample("anger", 5)]).json()
        return {score["label"] for score in body["results"][0]["faces"][0]["scores"]}

    assert labels() == set(EXPRESSIONS)
    client.delete(f"{taught}/classes/anger")
    assert labels() == set(EXPRESSIONS) - {"anger"}
    client.post(f"{taught}/classes/new/examples", files=[sample("anger", 0)])
    assert labels() == set(EXPRESSIONS) - {"anger"} | {"new"}


def test_concurrent_queries_get_their_own_answers(client: TestClient, taught: str) -> None:
    def ask(index: int) -> tuple[str, list[float]]:
        expression = EXPRESSIONS[index % 4]
        body = client.post(f"{taught}/classify", files=[sample(expression, 5)]).json()
        return expression, [s["score"] for s in body["results"][0]["faces"][0]["scores"]]

    alone = dict(ask(index) for index in range(4))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for expression, scores in pool.map(ask, range(24)):
            assert scores == pytest.approx(alone[expression], abs=1e-5)


def test_system_routes_need_no_session(client: TestClient) -> None:
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    model = client.get("/v1/model").json()
    assert model.keys() == {
        "encoder",
        "patch_layout",
        "patch_size",
        "part_weights",
        "weights_sha256",
        "device",
        "trained_on",
        "evaluation",
    }
    assert (model["patch_layout"], model["patch_size"]) == ("squares", 64)
    assert model["device"] == "cpu"
    assert client.get("/docs").status_code == 200
    codes = client.get("/openapi.json").json()["components"]["schemas"]["Problem"]["properties"]["code"]
    assert {"image_unreadable", "no_face", "model_changed", "not_ready"} <= set(codes["enum"])


def test_sessions_belong_to_their_key(weights: Path, tmp_path: Path) -> None:
    app = create_app(settings(weights, tmp_path, api_keys="ann:secret-a,bob:secret-b"))
    with TestClient(app, headers=LOCAL) as client:
        ann, bob = ({"Authorization": f"Bearer secret-{name}"} for name in "ab")
        path = "/v1/sessions/" + client.post("/v1/sessions", headers=ann).json()["id"]
        assert client.get(path, headers=ann).status_code == 200
        assert_problem(client.get(path, headers=bob), 404, "session_not_found")
        assert client.get("/v1/sessions", headers=bob).json()["sessions"] == []
        face = [sample("anger", 0)]
        added = client.post(f"{path}/classes/a/examples", headers=ann, files=face)
        example = f"classes/a/examples/{added.json()['added'][0]['example_id']}"
        for method, place, content in (
            ("GET", "", {}),
            ("GET", "/quality", {}),
            ("GET", "/export", {}),
            ("GET", "/classes/a", {}),
            ("POST", "/classify", {"files": face}),
            ("POST", "/support", {"files": face, "data": {"labels": ["a"]}}),
            ("POST", "/classes/a/examples", {"files": face}),
            ("PUT", "/classes/a", {"files": face}),
            ("DELETE", f"/{example}", {}),
            ("DELETE", "/classes/a", {}),
            ("DELETE", "", {}),
        ):
            refused = client.request(method, f"{path}{place}", headers=bob, **content)
            assert_problem(refused, 404, "session_not_found")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            refused = client.get(path, headers=headers)
            assert_problem(refused, 401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get("/readyz").status_code == 200


def test_a_session_of_other_weights_is_model_changed(weights: Path, tmp_path: Path) -> None:
    """Its stored features have another length, too."""
    with TestClient(create_app(settings(weights, tmp_path)), headers=LOCAL) as client:
        path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
        assert client.post(f"{path}/classes/a/examples", files=[sample("anger", 0)]).status_code == 201
    other_weights = save_full_checkpoint(tmp_path / "other.safetensors")
    with TestClient(create_app(settings(other_weights, tmp_path)), headers=LOCAL) as client:
        assert client.get(path).json()["classes"] == [{"label": "a", "examples": 1}]
        query = [sample("anger", 1)]
        assert_problem(client.post(f"{path}/classify", files=query), 409, "model_changed")
        assert_problem(client.get(f"{path}/quality"), 409, "model_changed")
        exported = client.get(f"{path}/export")
        assert exported.status_code == 200
        refused = client.post("/v1/sessions/import", content=exported.content)
        assert_problem(refused, 409, "model_changed")
        assert_problem(client.post(f"{path}/classes/a/examples", files=query), 409, "model_changed")
        with client.websocket_connect(f"{path}/stream") as stream:
            stream.send_bytes(sample_bytes("anger", 1))
            with pytest.raises(WebSocketDisconnect) as closed:
                stream.receive_json()
        assert closed.value.reason == "model_changed"
        assert client.delete(path).status_code == 204


def test_a_slash_divides_the_path_only_where_it_is_not_encoded(client: TestClient, session: str) -> None:
    for label in ("x", "x/examples/1", "%2F"):
        path = f"{session}/classes/{urllib.parse.quote(label, safe='')}"
        ids = {"example_ids": [f"{len(label)}-1"]}
        assert client.post(f"{path}/examples", files=[sample("anger", 0)], data=ids).status_code == 201
        assert client.get(path).json()["label"] == label
    assert client.delete(f"{session}/classes/x%2Fexamples%2F1").status_code == 204
    assert [entry["label"] for entry in client.get(session).json()["classes"]] == ["x", "%2F"]
    for path, status in (("x/y", 404), ("x/", 404), ("x/examples", 405)):
        response = client.put(f"{session}/classes/{path}", files=[sample("anger", 0)])
        assert response.status_code == status
    assert_problem(client.get(f"{session}/classes/%FF"), 422, "invalid_label")


def test_dots_that_clients_take_out_of_a_path_are_no_names(client: TestClient, taught: str) -> None:
    face = [sample("anger", 0)]
    for label in (".", ".."):
        refused = client.post(f"{taught}/support", files=face, data={"labels": [label]})
        assert_problem(refused, 422, "invalid_label")
        named = client.post(f"{taught}/classes/a/examples", files=face, data={"example_ids": [label]})
        assert_problem(named, 422, "invalid_request")
    assert client.delete(f"{taught}/", follow_redirects=True).status_code == 404
    assert client.get(taught).status_code == 200


@pytest.mark.parametrize(
    "metadata", ['{"k": "' + "笑" * 6000 + '"}', '{"\\ud800": 1}', '{"k": 1e400}', '{"k": NaN}', '{"k": {}}']
)
def test_metadata_that_cannot_be_kept_is_refused(client: TestClient, metadata: str) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/v1/sessions", content=f'{{"metadata": {metadata}}}', headers=headers)
    assert_problem(response, 422, "invalid_request")


def test_labels_that_look_alike_are_one_class(client: TestClient, session: str) -> None:
    face = [sample("anger", 0)]
    client.post(f"{session}/support", files=face, data={"labels": ["e\u0301"]})
    client.post(f"{session}/classes/%C3%A9/examples", files=face)
    client.post(f"{session}/classes/e%CC%81/examples", files=face)
    assert client.get(session).json()["classes"] == [{"label": "\u00e9", "examples": 3}]


def test_problems_say_what_to_do(client: TestClient, session: str) -> None:
    face, path = [sample("anger", 0)], f"{session}/classes/a/examples"
    forgotten = client.post(path, files=[("other", ("f", b"", ""))], data={"images": "x.jpg"})
    assert_problem(forgotten, 422, "no_images")
    assert "send a file part" in forgotten.json()["detail"]
    client.post(path, files=face, data={"example_ids": ["mine"]})
    assert "mine is taken" in client.post(path, files=face, data={"example_ids": ["mine"]}).json()["detail"]
    headers = {"content-type": "multipart/form-data"}
    assert_problem(client.post(path, content=b"x", headers=headers), 422, "invalid_request")


def test_a_large_body_of_json_is_refused_before_it_is_read(client: TestClient) -> None:
    entries = ",".join(f'"{index}":[]' for index in range(20_000))
    headers = {"content-type": "application/json"}
    response = client.post("/v1/sessions", content=f'{{"metadata":{{{entries}}}}}', headers=headers)
    assert_problem(response, 413, "body_too_large")
    few = ",".join(f'"{index}":[]' for index in range(5_000))
    response = client.post("/v1/sessions", content=f"{{{few}}}", headers=headers)
    assert_problem(response, 422, "invalid_request")
    assert len(response.content) < 10_000


def test_every_error_is_described_as_a_problem(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for path in schema["paths"].values():
        for operation in path.values():
            for status in ("4XX", "5XX", "429", "503"):
                assert [*operation["responses"][status]["content"]] == ["application/problem+json"]
            for status in ("429", "503"):
                assert "Retry-After" in operation["responses"][status]["headers"]
    assert (
        "Seconds until" in schema["components"]["schemas"]["NewSession"]["properties"]["ttl_s"]["description"]
    )


def test_quality_judges_each_class_by_its_other_examples(client: TestClient, session: str) -> None:
    path = f"{session}/quality"
    empty = client.get(path).json()
    assert (empty["accuracy"], empty["classes"], empty["confusion"]) == (None, [], [])
    client.post(f"{session}/classes/anger/examples", files=[sample("anger", index) for index in range(3)])
    (alone,) = client.get(path).json()["classes"]
    assert (alone["verdict"], alone["told_right"]) == ("not_measurable", None)
    assert "only class" in alone["detail"]
    files = [sample("surprise", 0), sample("happiness", 0), sample("happiness", 1)]
    client.post(f"{session}/support", files=files, data={"labels": ["surprise", "happiness", "happiness"]})
    quality = client.get(path).json()
    assert quality["labels"] == ["anger", "surprise", "happiness"]
    assert quality["revision"] == client.get(session).json()["revision"]
    anger, surprise, happiness = quality["classes"]
    assert (surprise["verdict"], surprise["told_right"]) == ("not_measurable", None)
    assert "one example" in surprise["detail"]
    rows = quality["confusion"]
    assert [sum(row) for row in rows] == [3, 0, 2]
    assert quality["accuracy"] == pytest.approx((rows[0][0] + rows[2][2]) / 5)
    for entry, row, index in ((anger, rows[0], 0), (happiness, rows[2], 2)):
        assert entry["told_right"] == row[index]
        assert sum(other["examples"] for other in entry["confused_with"]) == sum(row) - row[index]
        margins = [example["margin"] for example in entry["confusing_examples"]]
        assert len(margins) == sum(row) - row[index]
        assert margins == sorted(margins)
        assert all(margin < 0 for margin in margins)
        assert f"{row[index]} of {sum(row)} examples are told right" in entry["detail"]
    assert_problem(client.get("/v1/sessions/nope/quality"), 404, "session_not_found")


def test_an_exported_session_answers_alike_once_imported(client: TestClient, taught: str) -> None:
    exported = client.get(f"{taught}/export")
    assert exported.status_code == 200
    assert "attachment" in exported.headers["content-disposition"]
    original = client.get(taught).json()
    query = [sample("anger", 6)]
    answer = client.post(f"{taught}/classify", files=query).json()["results"]
    for body in ({"content": exported.content}, {"files": {"file": ("s.safetensors", exported.content)}}):
        imported = client.post("/v1/sessions/import", **body)
        assert imported.status_code == 201
        assert imported.json()["id"] != original["id"]
        for same in ("name", "metadata", "classes", "weights_sha256", "expires_at"):
            assert imported.json()[same] == original[same]
        path = f"/v1/sessions/{imported.json()['id']}"
        assert client.post(f"{path}/classify", files=query).json()["results"] == answer


def test_there_are_only_so_many_exports_at_once(
    client: TestClient, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for places in (1, 0):
        monkeypatch.setitem(client.app.state._state, "export_places", asyncio.Semaphore(places))  # type: ignore[attr-defined]
        answers = [client.get(f"{taught}/export") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200 if places else 429] * 2
    assert_problem(answers[0], 429, "overloaded")


def test_a_damaged_import_is_refused_and_leaves_no_session(client: TestClient, taught: str) -> None:
    before = client.get("/v1/sessions", params={"limit": 1000}).json()
    exported = client.get(f"{taught}/export").content
    for data in (b"", b"junk", exported[:-1], exported[:100]):
        assert_problem(client.post("/v1/sessions/import", content=data), 422, "archive_invalid")
    for files in ([("file", ("a", b"junk"))], [("file", ("a", b"x")), ("file", ("b", b"x"))]):
        assert_problem(client.post("/v1/sessions/import", files=files), 422, "archive_invalid")
    assert_problem(client.post("/v1/sessions/import", content=b"x" * (2**20 + 1)), 413, "body_too_large")
    assert client.get("/v1/sessions", params={"limit": 1000}).json() == before


def test_expired_sessions_are_gone_and_limits_hold(weights: Path, tmp_path: Path) -> None:
    quotas = {"max_sessions": 1, "max_classes": 2, "max_examples": 3}
    with TestClient(create_app(settings(weights, tmp_path, **quotas)), headers=LOCAL) as client:
        expired = client.post("/v1/sessions", json={"ttl_s": 0.001}).json()["id"]
        assert_problem(client.get(f"/v1/sessions/{expired}"), 404, "session_not_found")
        path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
        assert_problem(client.post("/v1/sessions"), 409, "session_limit")
        three = [sample("anger", index) for index in range(3)]
        response = client.post(f"{path}/support", files=three, data={"labels": ["a", "b", "c"]})
        assert_problem(response, 409, "class_limit")
        assert client.get(path).json()["classes"] == []
        assert client.post(f"{path}/support", files=three, data={"labels": list("aab")}).status_code == 201
        assert_problem(client.post(f"{path}/classes/a/examples", files=three[:1]), 409, "example_limit")
        assert client.get(path).json()["revision"] == 1


def test_what_was_deleted_or_expired_leaves_the_device_too(weights: Path, tmp_path: Path) -> None:
    app = create_app(settings(weights, tmp_path, upkeep_every_s=0.05))
    with TestClient(app, headers=LOCAL) as client:
        supports = app.state.supports

        def taught_and_asked(ttl_s: float | None = None) -> str:
            path: str = "/v1/sessions/" + client.post("/v1/sessions", json={"ttl_s": ttl_s}).json()["id"]
            for label in "ab":
                files = [sample("anger", index) for index in range(2)]
                client.post(f"{path}/classes/{label}/examples", files=files)
            assert client.post(f"{path}/classify", files=[sample("anger", 2)]).status_code == 200
            assert supports.size_bytes > 0
            return path

        def gone_soon() -> None:
            deadline = time.monotonic() + 10
            while supports.size_bytes > 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)

        client.delete(taught_and_asked())
        assert supports.size_bytes == 0
        client.delete(f"{taught_and_asked()}/classes/a")
        assert supports.size_bytes == 0
        path = taught_and_asked()
        client.delete(f"{path}/classes/a/examples/{client.get(f'{path}/classes/a').json()['example_ids'][0]}")
        assert supports.size_bytes == 0
        client.put(f"{taught_and_asked()}/classes/a", files=[sample("anger", 0)])
        assert supports.size_bytes == 0
        taught_and_asked(ttl_s=3)
        gone_soon()
        # Another replica's writes are seen by the upkeep alone.
        path = taught_and_asked()
        with TestClient(create_app(settings(weights, tmp_path)), headers=LOCAL) as other:
            other.delete(f"{path}/classes/a")
        gone_soon()
