from __future__ import annotations

import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.api import assert_problem, client_of, image, new_session, sample, state_of, teach
from tests.support.samples import EXPRESSIONS, distinct_copy, no_face, sample_bytes, two_faces


@pytest.mark.parametrize("data", [b"just text", b"", sample_bytes("anger", 0)[:500]])
def test_an_unreadable_image_is_refused_and_nothing_is_stored(
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
    rejected = [(item["index"], item["code"]) for item in body["rejected"]]
    assert rejected == [(0, "no_face"), (2, "image_unreadable")]
    assert body["session"]["classes"] == [{"label": "b", "examples": 1, "enabled": True}]


def test_classes_and_examples_can_be_changed_one_by_one(client: TestClient, session: str) -> None:
    path = f"{session}/classes/%E7%AC%91%3F%20a"
    files = [sample("happiness", index) for index in range(2)]
    added = client.post(f"{path}/examples", files=files, data={"example_ids": ["o:1", "two"]})
    assert added.status_code == 201
    expected = {"label": "笑? a", "examples": 2, "enabled": True, "example_ids": ["o:1", "two"]}
    assert client.get(path).json() == expected
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


def test_an_image_that_the_session_has_is_rejected(client: TestClient, session: str) -> None:
    first, copy = sample("anger", 0), image(distinct_copy(sample_bytes("anger", 0), 1))
    path = f"{session}/classes/a/examples"
    added = client.post(path, files=[first, image(no_face()), first, copy]).json()
    assert [item["index"] for item in added["added"]] == [0, 3]
    assert [(item["index"], item["code"]) for item in added["rejected"]] == [
        (1, "no_face"),
        (2, "duplicate_image"),
    ]
    assert added["rejected"][1]["detail"] == "The image is already an example of the session"
    again = client.post(f"{session}/support", files=[first, copy], data={"labels": ["b", "c"]})
    assert_problem(again, 422, "duplicate_image")
    assert [item["index"] for item in again.json()["rejected"]] == [0, 1]
    mixed = client.post(path, files=[image(no_face()), first])
    assert_problem(mixed, 422, "no_example_added")
    assert [item["code"] for item in mixed.json()["rejected"]] == ["no_face", "duplicate_image"]
    taken = client.post(path, files=[sample("anger", 1)], data={"example_ids": ["mine"]})
    assert taken.status_code == 201
    taken = client.post(path, files=[first], data={"example_ids": ["mine"]})
    assert_problem(taken, 409, "example_exists")


def test_an_example_id_is_refused_if_it_is_taken_whatever_its_image_shows(
    client: TestClient, session: str
) -> None:
    path, face, wall = f"{session}/classes/a/examples", sample("anger", 0), image(no_face())
    repeated = client.post(path, files=[face, wall], data={"example_ids": ["mine", "mine"]})
    assert_problem(repeated, 409, "example_exists")
    assert "mine" in repeated.json()["detail"]
    assert client.post(path, files=[face], data={"example_ids": ["mine"]}).status_code == 201
    before = client.get(session).json()
    for files, ids in (([wall], ["mine"]), ([sample("anger", 1), wall], ["new", "mine"])):
        assert_problem(client.post(path, files=files, data={"example_ids": ids}), 409, "example_exists")
    assert client.get(session).json() == before
    missing = client.post("/v1/sessions/nope/classes/a/examples", files=[wall], data={"example_ids": ["x"]})
    assert_problem(missing, 404, "session_not_found")


def test_put_accepts_the_images_that_it_replaces(client: TestClient, session: str) -> None:
    first, copy = sample("anger", 0), image(distinct_copy(sample_bytes("anger", 0), 1))
    client.post(f"{session}/support", files=[first, sample("anger", 1)], data={"labels": ["a", "b"]})
    replaced = client.put(f"{session}/classes/a", files=[first, copy])
    assert (replaced.status_code, replaced.json()["rejected"]) == (200, [])
    before = client.get(session).json()
    assert_problem(client.put(f"{session}/classes/a", files=[sample("anger", 1)]), 422, "duplicate_image")
    assert client.get(session).json() == before


def test_a_class_can_be_renamed(client: TestClient, taught: str) -> None:
    before = client.get(f"{taught}/classes/anger").json()
    renamed = client.patch(f"{taught}/classes/anger", json={"label": "笑?"})
    assert (renamed.status_code, renamed.json()) == (200, {**before, "label": "笑?"})
    assert client.get(f"{taught}/classes/%E7%AC%91%3F").json() == renamed.json()
    assert_problem(client.get(f"{taught}/classes/anger"), 404, "class_not_found")
    query = client.post(f"{taught}/classify", files=[sample("anger", 0)]).json()
    assert query["results"][0]["faces"][0]["predicted"] == "笑?"
    before = client.get(taught).json()
    for path, body, status, code in (
        ("happiness", {"label": "sadness"}, 409, "class_exists"),
        ("happiness", {"label": "a/b"}, 422, "invalid_label"),
        ("happiness", {"label": ""}, 422, "invalid_label"),
        ("happiness", {"enabled": "often"}, 422, "invalid_request"),
        ("happiness", {"colour": "red"}, 422, "invalid_request"),
        ("anger", {"label": "new"}, 404, "class_not_found"),
    ):
        assert_problem(client.patch(f"{taught}/classes/{path}", json=body), status, code)
    assert client.get(taught).json() == before


def test_a_disabled_class_is_not_scored(client: TestClient, taught: str) -> None:
    query, anger = [sample("anger", 0)], f"{taught}/classes/anger"
    every = client.post(f"{taught}/classify", files=query).json()
    assert every["results"][0]["faces"][0]["predicted"] == "anger"
    disabled = client.patch(anger, json={"enabled": False})
    assert (disabled.json()["enabled"], disabled.json()["examples"]) == (False, 2)
    assert client.get(taught).json()["classes"][0] == {"label": "anger", "examples": 2, "enabled": False}
    fewer = client.post(f"{taught}/classify", files=query).json()
    labels = [score["label"] for score in fewer["results"][0]["faces"][0]["scores"]]
    assert sorted(labels) == sorted({*EXPRESSIONS} - {"anger"})
    for label in labels:
        client.patch(f"{taught}/classes/{label}", json={"enabled": False})
    assert_problem(client.post(f"{taught}/classify", files=query), 422, "no_classes")
    with client.websocket_connect(f"{taught}/stream") as stream:
        stream.send_bytes(sample_bytes("anger", 0))
        answer = stream.receive_json()
        assert (len(answer["faces"]), answer["faces"][0]["scores"], answer["unknown_below"]) == (1, [], None)
    for label in EXPRESSIONS:
        client.patch(f"{taught}/classes/{label}", json={"enabled": True})
    again = client.post(f"{taught}/classify", files=query).json()
    assert again["results"] == every["results"]


@pytest.mark.parametrize("label", ["%", "a+b", "a b", "笑", "Ä", "?#&=", "\\", "x:y", "🙂", "...", "~"])
def test_a_label_of_any_characters_can_be_in_a_path(client: TestClient, session: str, label: str) -> None:
    path = f"{session}/classes/{urllib.parse.quote(label, safe='')}"
    assert client.post(f"{path}/examples", files=[sample("anger", 0)]).json()["added"][0]["label"] == label
    assert client.get(path).json()["label"] == label
    assert client.delete(path).status_code == 204
    assert_problem(client.get(path), 404, "class_not_found")


@pytest.mark.parametrize("label", ["a/b", "/", "a\x07", ".", "..", " ", "", "x" * 65, "\ufffd"])
def test_a_label_that_is_not_allowed_is_refused(client: TestClient, session: str, label: str) -> None:
    refused = client.post(f"{session}/support", files=[sample("anger", 0)], data={"labels": [label]})
    assert_problem(refused, 422, "invalid_label")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("a%07", 422, "invalid_label"),
        ("x" * 65, 422, "invalid_label"),
        ("%FF", 422, "invalid_label"),
        ("a%2Fb", 404, "not_found"),
        ("a/b", 404, "not_found"),
        ("a/", 404, "not_found"),
        ("a/examples", 405, "method_not_allowed"),
    ],
)
def test_a_path_without_an_allowed_label_is_refused(
    client: TestClient, session: str, path: str, status: int, code: str
) -> None:
    refused = client.put(f"{session}/classes/{path}", files=[sample("anger", 0)])
    assert_problem(refused, status, code)


def test_dots_that_clients_remove_from_a_path_are_no_example_ids(client: TestClient, taught: str) -> None:
    face = [sample("anger", 0)]
    for example_id in (".", ".."):
        named = client.post(f"{taught}/classes/a/examples", files=face, data={"example_ids": [example_id]})
        assert_problem(named, 422, "invalid_request")
    assert client.delete(f"{taught}/", follow_redirects=True).status_code == 404
    assert client.get(taught).status_code == 200


def test_labels_that_look_the_same_are_one_class(client: TestClient, session: str) -> None:
    client.post(f"{session}/support", files=[sample("anger", 0)], data={"labels": ["e\u0301"]})
    client.post(f"{session}/classes/%C3%A9/examples", files=[sample("anger", 1)])
    client.post(f"{session}/classes/e%CC%81/examples", files=[sample("anger", 2)])
    same = client.patch(f"{session}/classes/%C3%A9", json={"label": " e\u0301"})
    assert (same.status_code, client.get(session).json()["revision"]) == (200, 3), "nothing changed"
    assert client.get(session).json()["classes"] == [{"label": "\u00e9", "examples": 3, "enabled": True}]


def test_deleted_and_expired_examples_leave_the_device_memory(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, upkeep_every_s=0.05) as client:
        supports = state_of(client).supports

        def cached(**options: Any) -> str:
            path = teach(client, {"anger": 2, "sadness": 2}, new_session(client, json=options))
            assert client.post(f"{path}/classify", files=[sample("anger", 2)]).status_code == 200
            assert supports.size_bytes > 0
            return path

        def wait_until_empty() -> None:
            deadline = time.monotonic() + 10
            while supports.size_bytes > 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)

        client.delete(cached())
        assert supports.size_bytes == 0
        client.delete(f"{cached()}/classes/anger")
        assert supports.size_bytes == 0
        path = f"{cached()}/classes/anger"
        client.delete(f"{path}/examples/{client.get(path).json()['example_ids'][0]}")
        assert supports.size_bytes == 0
        client.put(f"{cached()}/classes/anger", files=[sample("anger", 0)])
        assert supports.size_bytes == 0
        cached(ttl_s=3)
        wait_until_empty()
        # Only the upkeep sees what other replicas write.
        path = cached()
        with client_of(weights, tmp_path) as other:
            other.delete(f"{path}/classes/anger")
        wait_until_empty()
