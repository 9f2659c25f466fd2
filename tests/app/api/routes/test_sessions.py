from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import MAX_EXPORTS_PER_KEY
from tests.support.api import assert_problem, client_of, new_session, sample, state_of
from tests.support.networks import save_full_checkpoint


def test_a_session_starts_empty_and_can_be_listed_and_deleted(client: TestClient) -> None:
    created = client.post("/v1/sessions", json={"name": "a", "ttl_s": 60, "metadata": {"k": "v"}})
    assert created.status_code == 201
    body = created.json()
    assert (body["name"], body["metadata"], body["classes"], body["revision"]) == ("a", {"k": "v"}, [], 0)
    assert body["expires_at"] > body["created_at"]
    path = f"/v1/sessions/{body['id']}"
    assert client.get(path).json() == body
    listed, page = [], {"limit": 2}
    while "cursor" not in page or page["cursor"] is not None:
        answer = client.get("/v1/sessions", params=page).json()
        listed += answer["sessions"]
        page["cursor"] = answer["next_cursor"]
    assert body in listed
    assert client.delete(path).status_code == 204
    assert_problem(client.get(path), 404, "session_not_found")
    assert_problem(client.delete(path), 404, "session_not_found")


def test_a_session_can_be_created_without_a_body(client: TestClient) -> None:
    assert client.post("/v1/sessions").status_code == 201


@pytest.mark.parametrize(
    ("metadata", "detail"),
    [
        ('{"k": "' + "笑" * 6000 + '"}', "at most 16384 bytes"),
        ('{"\\ud800": 1}', "valid Unicode and finite numbers"),
        ('{"k": "\\udfff"}', "valid Unicode and finite numbers"),
        ('{"k": 1e400}', "valid Unicode and finite numbers"),
        ('{"k": NaN}', "valid Unicode and finite numbers"),
        ('{"k": {}}', "metadata.k"),
    ],
)
def test_metadata_that_cannot_be_stored_is_refused(client: TestClient, metadata: str, detail: str) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/v1/sessions", content=f'{{"metadata": {metadata}}}', headers=headers)
    assert_problem(response, 422, "invalid_request")
    assert detail in response.json()["detail"]


def test_quality_judges_each_class_by_its_other_examples(client: TestClient, session: str) -> None:
    path = f"{session}/quality"
    empty = client.get(path).json()
    assert (empty["accuracy"], empty["classes"], empty["confusion"]) == (None, [], [])
    client.post(f"{session}/classes/anger/examples", files=[sample("anger", index) for index in range(3)])
    (alone,) = client.get(path).json()["classes"]
    assert (alone["verdict"], alone["correct"]) == ("not_measurable", None)
    assert "only class" in alone["detail"]
    files = [sample("surprise", 0), sample("happiness", 0), sample("happiness", 1)]
    client.post(f"{session}/support", files=files, data={"labels": ["surprise", "happiness", "happiness"]})
    quality = client.get(path).json()
    assert quality["labels"] == ["anger", "surprise", "happiness"]
    assert quality["revision"] == client.get(session).json()["revision"]
    anger, surprise, happiness = quality["classes"]
    assert (anger["correct"], happiness["correct"]) == (
        quality["confusion"][0][0],
        quality["confusion"][2][2],
    )
    assert (surprise["verdict"], surprise["correct"]) == ("not_measurable", None)
    assert "one example" in surprise["detail"]
    rows = quality["confusion"]
    assert [sum(row) for row in rows] == [3, 0, 2]
    assert (anger["correct"], happiness["correct"]) == (rows[0][0], rows[2][2])
    assert quality["accuracy"] == pytest.approx((rows[0][0] + rows[2][2]) / 5)
    assert_problem(client.get("/v1/sessions/nope/quality"), 404, "session_not_found")


def test_quality_leaves_out_disabled_classes(client: TestClient, taught: str) -> None:
    path = f"{taught}/quality"
    every = client.get(path).json()
    client.patch(f"{taught}/classes/anger", json={"enabled": False})
    fewer = client.get(path).json()
    assert fewer["labels"] == [label for label in every["labels"] if label != "anger"]
    assert [entry["label"] for entry in fewer["classes"]] == fewer["labels"]
    for label in fewer["labels"]:
        client.patch(f"{taught}/classes/{label}", json={"enabled": False})
    none = client.get(path).json()
    assert (none["accuracy"], none["classes"], none["unknown_below"]) == (None, [], None)


def test_an_imported_session_gives_the_same_results_as_the_exported_one(
    client: TestClient, taught: str
) -> None:
    exported = client.get(f"{taught}/export")
    assert exported.status_code == 200
    assert "attachment" in exported.headers["content-disposition"]
    original = client.get(taught).json()
    query = [sample("anger", 6)]
    results = client.post(f"{taught}/classify", files=query).json()["results"]
    for body in ({"content": exported.content}, {"files": {"file": ("s.safetensors", exported.content)}}):
        imported = client.post("/v1/sessions/import", **body)
        assert imported.status_code == 201
        assert imported.json()["id"] != original["id"]
        for same in ("name", "metadata", "classes", "weights_sha256", "expires_at"):
            assert imported.json()[same] == original[same]
        path = f"/v1/sessions/{imported.json()['id']}"
        assert client.post(f"{path}/classify", files=query).json()["results"] == results


def test_an_imported_session_knows_its_images_and_its_disabled_classes(
    client: TestClient, taught: str
) -> None:
    client.patch(f"{taught}/classes/anger", json={"enabled": False})
    imported = client.post("/v1/sessions/import", content=client.get(f"{taught}/export").content)
    assert imported.json()["classes"] == client.get(taught).json()["classes"]
    path = f"/v1/sessions/{imported.json()['id']}"
    again = client.post(f"{path}/classes/new/examples", files=[sample("anger", 0)])
    assert_problem(again, 422, "duplicate_image")


def test_the_settings_of_a_session_can_be_changed(client: TestClient, taught: str) -> None:
    before = client.get(taught).json()
    metadata = {"k": "v", "n": None}
    changed = client.patch(taught, json={"name": "new", "ttl_s": 60, "metadata": metadata}).json()
    assert (changed["name"], changed["metadata"], changed["revision"]) == (
        "new",
        metadata,
        before["revision"],
    )
    assert changed["expires_at"] > changed["created_at"]
    cleared = client.patch(taught, json={"name": None, "ttl_s": None}).json()
    assert cleared == {**before, "name": None, "metadata": metadata}
    assert client.patch(taught, json={}).json() == cleared == client.get(taught).json()
    for refused in ({"metadata": None}, {"ttl_s": 0}, {"name": "x" * 201}, {"title": "x"}, "x"):
        assert_problem(client.patch(taught, json=refused), 422, "invalid_request")
    assert_problem(client.patch(taught), 422, "invalid_request")
    assert_problem(client.patch(taught, data={"name": "x"}), 415, "unsupported_media_type")
    assert_problem(client.patch("/v1/sessions/nope", json={}), 404, "session_not_found")
    assert client.get(taught).json() == cleared


def test_an_import_starts_the_time_to_live_that_was_set_last(client: TestClient, session: str) -> None:
    for ttl_s in (3600, 60.5, None, 10 * 365 * 86400):
        client.patch(session, json={"ttl_s": ttl_s})
        client.patch(session, json={"name": "n"})
        imported = client.post("/v1/sessions/import", content=client.get(f"{session}/export").content).json()
        if ttl_s is None:
            assert imported["expires_at"] is None
        else:
            times = (datetime.datetime.fromisoformat(imported[at]) for at in ("created_at", "expires_at"))
            created_at, expires_at = times
            assert (expires_at - created_at).total_seconds() == pytest.approx(ttl_s, abs=1e-3)


def test_sessions_can_be_listed_by_their_exact_name(client: TestClient) -> None:
    named = [new_session(client, json={"name": name}) for name in ("å b", "å b", "å", "å b")]
    page = {"name": "å b", "limit": "2"}
    first = client.get("/v1/sessions", params=page).json()
    second = client.get("/v1/sessions", params={**page, "cursor": first["next_cursor"]}).json()
    found = [f"/v1/sessions/{session['id']}" for session in first["sessions"] + second["sessions"]]
    assert (found, second["next_cursor"]) == ([named[0], named[1], named[3]], None)
    for refused in ("\0", "x" * 201):
        assert_problem(client.get("/v1/sessions", params={"name": refused}), 422, "invalid_request")


def test_a_key_has_a_limited_number_of_exports_at_once(client: TestClient, taught: str) -> None:
    exports = state_of(client).exports
    with exports.hold("local"):
        assert [client.get(f"{taught}/export").status_code for _ in range(MAX_EXPORTS_PER_KEY)] == [200, 200]
        with exports.hold("local"):
            assert_problem(client.get(f"{taught}/export"), 429, "overloaded")


def test_a_damaged_import_is_refused_and_leaves_no_session(client: TestClient, taught: str) -> None:
    before = client.get("/v1/sessions", params={"limit": 1000}).json()
    exported = client.get(f"{taught}/export").content
    for data in (b"", b"junk", exported[:-1], exported[:100]):
        assert_problem(client.post("/v1/sessions/import", content=data), 422, "archive_invalid")
    for files in ([("file", ("a", b"junk"))], [("file", ("a", b"x")), ("file", ("b", b"x"))]):
        assert_problem(client.post("/v1/sessions/import", files=files), 422, "archive_invalid")
    file = ("file", ("a", exported))
    for response in (
        client.post("/v1/sessions/import", files=[file], data={"file": "x"}),
        client.post("/v1/sessions/import", files=[file, ("file", ("", b""))]),
    ):
        assert_problem(response, 422, "archive_invalid")
    assert client.get("/v1/sessions", params={"limit": 1000}).json() == before


def test_expired_sessions_do_not_exist_and_quotas_hold(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, max_sessions=1, max_classes=2, max_examples=3) as client:
        expired = new_session(client, json={"ttl_s": 0.001})
        assert_problem(client.get(expired), 404, "session_not_found")
        path = new_session(client)
        assert_problem(client.post("/v1/sessions"), 409, "session_limit")
        three = [sample("anger", index) for index in range(3)]
        response = client.post(f"{path}/support", files=three, data={"labels": ["a", "b", "c"]})
        assert_problem(response, 409, "class_limit")
        assert client.get(path).json()["classes"] == []
        assert client.post(f"{path}/support", files=three, data={"labels": list("aab")}).status_code == 201
        fourth = [sample("anger", 3)]
        assert_problem(client.post(f"{path}/classes/a/examples", files=fourth), 409, "example_limit")
        assert client.get(path).json()["revision"] == 1


def test_a_session_of_other_weights_can_only_be_read_exported_and_deleted(
    weights: Path, tmp_path: Path
) -> None:
    with client_of(weights, tmp_path) as client:
        path = new_session(client)
        assert client.post(f"{path}/classes/a/examples", files=[sample("anger", 0)]).status_code == 201
    with client_of(save_full_checkpoint(tmp_path / "other.safetensors"), tmp_path) as client:
        assert client.get(path).json()["classes"] == [{"label": "a", "examples": 1, "enabled": True}]
        query = [sample("anger", 1)]
        assert_problem(client.post(f"{path}/classify", files=query), 409, "model_changed")
        assert_problem(client.get(f"{path}/quality"), 409, "model_changed")
        exported = client.get(f"{path}/export")
        assert exported.status_code == 200
        refused = client.post("/v1/sessions/import", content=exported.content)
        assert_problem(refused, 409, "model_changed")
        assert_problem(client.post(f"{path}/classes/a/examples", files=query), 409, "model_changed")
        with client.websocket_connect(f"{path}/stream") as stream:
            assert stream.receive()["reason"] == "model_changed"
        assert client.delete(path).status_code == 204
