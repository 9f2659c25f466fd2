"""What /metrics tells after real requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.sessions.errors import StoreUnavailable
from tests.support.api import LOCAL, image, sample, settings
from tests.support.samples import no_face, sample_bytes, two_faces

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(client: TestClient) -> Series:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (found.name, tuple(sorted(found.labels.items()))): found.value
        for family in text_string_to_metric_families(response.text)
        for found in family.samples
    }


class Change:
    """How the metrics of an application have changed since this was made."""

    def __init__(self, client: TestClient) -> None:
        self._client, self._before = client, scraped(client)

    def of(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return scraped(self._client).get(key, 0) - self._before.get(key, 0)


@pytest.fixture(scope="module")
def app(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return create_app(settings(weights, tmp_path_factory.mktemp("store"), max_body_bytes=2**20))


@pytest.fixture(scope="module")
def client(app: Any) -> Iterator[TestClient]:
    with TestClient(app, headers=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def taught(client: TestClient) -> str:
    path: str = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
    for label in ("anger", "joy"):
        client.post(f"{path}/classes/{label}/examples", files=[sample("anger", 0)])
    return path


CLASSIFY = "/v1/sessions/{session_id}/classify"


def test_requests_are_counted_and_timed_by_route_template(client: TestClient, taught: str) -> None:
    change = Change(client)
    for _ in range(2):
        assert client.post(f"{taught}/classify", files=[sample("anger", 5)]).status_code == 200
    assert client.post("/v1/sessions/nope/classify", files=[sample("anger", 5)]).status_code == 404
    assert change.of("csrn_requests_total", method="POST", route=CLASSIFY, status="200") == 2
    assert change.of("csrn_requests_total", method="POST", route=CLASSIFY, status="404") == 1
    assert change.of("csrn_request_seconds_count", method="POST", route=CLASSIFY) == 3
    assert change.of("csrn_request_seconds_sum", method="POST", route=CLASSIFY) > 0


def test_what_no_route_has_seen_is_counted_under_few_names(client: TestClient, taught: str) -> None:
    change = Change(client)
    for path in ("/nowhere", "/v1/secret/label", "/wp-admin.php", f"{taught}/x"):
        assert client.get(path).status_code == 404
    client.put("/v1/model")
    client.post(f"{taught}/classify", files=[image(b"x" * 2**20)])
    client.request("BREW", "/livez")
    client.get("/page/view.js")
    client.get("/page/nothing.js")
    assert change.of("csrn_requests_total", method="GET", route="unknown", status="404") == 4
    assert change.of("csrn_requests_total", method="PUT", route="/v1/model", status="405") == 1
    assert change.of("csrn_requests_total", method="POST", route=CLASSIFY, status="413") == 1
    assert change.of("csrn_requests_total", method="other", route="/livez", status="405") == 1
    assert change.of("csrn_requests_total", method="GET", route="/page/{path}", status="200") == 1
    assert change.of("csrn_requests_total", method="GET", route="/page/{path}", status="404") == 1
    routes = {dict(labels).get("route") for _, labels in scraped(client)}
    assert not {route for route in routes if route and ("secret" in route or "nowhere" in route)}


def test_faults_are_counted_as_500(client: TestClient, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app.state.store, "list_page", fail)
    change = Change(client)
    assert client.get("/v1/sessions").status_code == 500
    assert change.of("csrn_requests_total", method="GET", route="/v1/sessions", status="500") == 1
    # The scrape itself is in flight.
    assert scraped(client)["csrn_requests_in_flight", ()] == 1


def test_stages_batches_and_faces_are_told(client: TestClient, taught: str) -> None:
    change = Change(client)
    files = [sample("anger", 5), image(no_face()), image(b"text"), image(two_faces())]
    assert client.post(f"{taught}/classify", files=files).status_code == 200
    for stage in ("support", "faces", "network"):
        assert change.of("csrn_stage_seconds_count", stage=stage) == 1
    assert change.of("csrn_batch_jobs_sum", queue="faces") == 4
    # One prepares the support set, one scores the two faces.
    assert change.of("csrn_batch_jobs_sum", queue="device") == 2
    assert change.of("csrn_faces_not_found_total") == 1
    assert change.of("csrn_images_unreadable_total") == 1
    refused = [image(no_face()), image(two_faces())]
    client.post(f"{taught}/support", files=refused, data={"labels": ["a", "b"]})
    assert change.of("csrn_faces_not_found_total") == 2


def test_the_support_cache_is_told(client: TestClient, taught: str) -> None:
    change = Change(client)
    for _ in range(2):
        client.post(f"{taught}/classify", files=[sample("anger", 5)])
    assert change.of("csrn_support_cache_misses_total") == 1
    assert change.of("csrn_support_cache_sets") == 1
    assert change.of("csrn_support_cache_bytes") > 0
    assert scraped(client)["csrn_device_memory_bytes", ()] == 0


def test_full_queues_and_what_waits_in_them_are_told(client: TestClient, app: Any, taught: str) -> None:
    queue = app.state.engine.faces._batcher
    change = Change(client)
    queue._queued_work += 10**6
    # Somebody is in the line before: an empty queue takes any one request.
    queue._lanes["before"] = [None]
    try:
        response = client.post(f"{taught}/classify", files=[sample("anger", 5)])
        assert scraped(client)["csrn_queued_work", (("queue", "faces"),)] == 10**6
    finally:
        queue._queued_work -= 10**6
        del queue._lanes["before"]
    assert response.status_code == 429
    assert change.of("csrn_overloaded_total", queue="faces") == 1
    assert change.of("csrn_overloaded_total", queue="device") == 0


def test_streams_and_their_frames_are_told(client: TestClient, taught: str) -> None:
    change = Change(client)
    with client.websocket_connect(f"{taught}/stream") as socket:
        for frame in (sample_bytes("anger", 4), no_face(), b"text"):
            socket.send_bytes(frame)
            socket.receive_json()
        assert change.of("csrn_streams_open") == 1
    for outcome in ("scored", "no_face", "unreadable"):
        assert change.of("csrn_stream_frames_total", outcome=outcome) == 1
    assert change.of("csrn_stream_frames_total", outcome="dropped") == 0
    assert change.of("csrn_stage_seconds_count", stage="faces") == 3
    assert change.of("csrn_stage_seconds_count", stage="network") == 2, "of the frames that can be read"
    assert change.of("csrn_streams_open") == 0


def test_sessions_of_all_keys_are_counted(weights: Path, tmp_path: Path) -> None:
    with TestClient(create_app(settings(weights, tmp_path, api_keys="ann:a,bob:b")), headers=LOCAL) as client:
        for key in "ab":
            client.post("/v1/sessions", headers={"Authorization": f"Bearer {key}"})
        assert scraped(client)["csrn_sessions", ()] == 2


async def _hang() -> int:
    await asyncio.sleep(60)
    return 0


async def _away() -> int:
    raise StoreUnavailable("away")


@pytest.mark.parametrize("count", [_hang, _away])
def test_a_store_that_is_away_is_told_and_the_rest_is_there(
    client: TestClient, app: Any, monkeypatch: pytest.MonkeyPatch, count: Any
) -> None:
    monkeypatch.setattr("app.api.routes.system.STORE_LIMIT_S", 0.1)
    assert scraped(client)["csrn_ready", ()] == 1
    monkeypatch.setattr(app.state.store, "count", count)
    series = scraped(client)
    assert series["csrn_ready", ()] == 0
    assert ("csrn_sessions", ()) not in series
    assert ("csrn_queued_work", (("queue", "device"),)) in series


def test_two_applications_count_each_for_itself(weights: Path, tmp_path: Path, client: TestClient) -> None:
    change = Change(client)
    with TestClient(create_app(settings(weights, tmp_path)), headers=LOCAL) as other:
        other.get("/v1/model")
        series = scraped(other)
    labels = (("method", "GET"), ("route", "/v1/model"), ("status", "200"))
    assert series["csrn_requests_total", labels] == 1
    assert change.of("csrn_requests_total", method="GET", route="/v1/model", status="200") == 0


def test_metrics_need_no_key_and_are_described_as_text(weights: Path, tmp_path: Path) -> None:
    with TestClient(create_app(settings(weights, tmp_path, api_keys="ann:secret"))) as client:
        assert {name for name, _ in scraped(client)} >= {"process_resident_memory_bytes", "python_info"}
        described = client.get("/openapi.json").json()["paths"]["/metrics"]["get"]
    assert [*described["responses"]["200"]["content"]] == ["text/plain"]
    assert "security" not in described
