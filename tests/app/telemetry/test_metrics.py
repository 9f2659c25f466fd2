from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.inference.engine import Engine
from app.sessions.errors import StoreUnavailable
from tests.support.api import bearer, client_of, image, new_session, sample, state_of, teach
from tests.support.samples import no_face, sample_bytes, two_faces

DASHBOARD = Path(__file__).parents[3] / "deploy/grafana/csrn.json"
CLASSIFY = "/v1/sessions/{session_id}/classify"


def scraped(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of every series, by its name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (found.name, frozenset(found.labels.items())): found.value
        for family in text_string_to_metric_families(response.text)
        for found in family.samples
    }


class Change:
    """How the metrics of an application have changed since this was made."""

    def __init__(self, client: TestClient) -> None:
        self._client, self._before = client, scraped(client)

    def of(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return scraped(self._client).get(key, 0) - self._before.get(key, 0)

    def requests(self, method: str, handler: str, status: int) -> float:
        return self.of("http_requests_total", method=method, handler=handler, status=str(status))


@pytest.fixture(scope="module")
def client(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(weights, tmp_path_factory.mktemp("store"), max_body_bytes=2**20) as client:
        yield client


@pytest.fixture
def session(client: TestClient) -> str:
    return teach(client, {"anger": 1, "happiness": 1})


def test_requests_are_counted_and_timed_by_route_template(client: TestClient, session: str) -> None:
    change = Change(client)
    for _ in range(2):
        client.post(f"{session}/classify", files=[sample("anger", 5)])
    client.post("/v1/sessions/nope/classify", files=[sample("anger", 5)])
    client.post(f"{session}/classify", files=[image(b"x" * 2**20)])
    client.put("/v1/model")
    client.get("/page/page.js")
    client.post("/v1/sessions/import", content=b"x")
    for path in ("/nowhere", "/v1/secret/label", f"{session}/secret"):
        client.get(path)
    assert change.requests("POST", CLASSIFY, 200) == 2
    assert change.requests("POST", CLASSIFY, 404) == 1
    assert change.requests("POST", CLASSIFY, 413) == 1
    assert change.of("http_request_duration_seconds_count", method="POST", handler=CLASSIFY) == 4
    assert change.requests("PUT", "/v1/model", 405) == 1
    assert change.requests("GET", "/page", 200) == 1
    assert change.requests("POST", "/v1/sessions/import", 422) == 1
    assert change.requests("GET", "none", 404) == 3
    handlers = {dict(labels).get("handler", "") for _, labels in scraped(client)}
    assert not [name for name in handlers if re.search("secret|nowhere|livez|metrics", name)]


def test_invented_methods_add_no_series(client: TestClient) -> None:
    for number in range(3):
        client.request(f"FOO{number}", "/")
    assert "FOO" not in client.get("/metrics").text


def test_a_fault_is_counted_as_500(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_of(client).store, "list_page", None)
    change = Change(client)
    assert client.get("/v1/sessions").status_code == 500
    assert change.requests("GET", "/v1/sessions", 500) == 1


def test_stages_batches_faces_and_the_support_cache_are_measured(client: TestClient, session: str) -> None:
    change = Change(client)
    files = [sample("anger", 5), image(no_face()), image(b"text"), image(two_faces())]
    for _ in range(2):
        assert client.post(f"{session}/classify", files=files).status_code == 200
    for stage in ("support", "faces", "network"):
        assert change.of("csrn_stage_seconds_count", stage=stage) == 2
    assert change.of("csrn_batch_jobs_sum", queue="faces") == 8
    assert change.of("csrn_batch_jobs_sum", queue="device") == 3, "one support set and two queries"
    assert change.of("csrn_faces_not_found_total") == 2
    assert change.of("csrn_images_unreadable_total") == 2
    assert change.of("csrn_support_cache_misses_total") == 1
    assert change.of("csrn_support_cache_sets") == 1
    assert change.of("csrn_support_cache_bytes") > 0
    assert scraped(client)["csrn_device_memory_bytes", frozenset()] == 0


def test_queues_show_their_length_and_what_they_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Change(client)
    monkeypatch.setattr(Engine, "queued_work", {"faces": 7, "device": 0})
    state_of(client).metrics.queue_was_full("faces")
    assert change.of("csrn_queued_work", queue="faces") == 7
    assert change.of("csrn_overloaded_total", queue="faces") == 1
    assert change.of("csrn_overloaded_total", queue="device") == 0


def test_streams_and_the_outcomes_of_their_frames_are_counted(client: TestClient, session: str) -> None:
    change = Change(client)
    with client.websocket_connect(f"{session}/stream") as socket:
        for frame in (sample_bytes("anger", 4), no_face(), b"text"):
            socket.send_bytes(frame)
            socket.receive_json()
        assert change.of("csrn_streams_open") == 1
    for outcome in ("scored", "no_face", "unreadable"):
        assert change.of("csrn_stream_frames_total", outcome=outcome) == 1
    assert change.of("csrn_stage_seconds_count", stage="faces") == 3
    assert change.of("csrn_streams_open") == 0


async def _hang() -> int:
    await asyncio.sleep(60)
    return 0


async def _fail() -> int:
    raise StoreUnavailable("away")


@pytest.mark.parametrize("count", [_hang, _fail])
def test_a_store_that_does_not_answer_makes_the_service_unready(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, count: Any
) -> None:
    monkeypatch.setattr("app.api.routes.system.STORE_LIMIT_S", 0.1)
    assert scraped(client)["csrn_ready", frozenset()] == 1
    monkeypatch.setattr(state_of(client).store, "count", count)
    series = scraped(client)
    assert series["csrn_ready", frozenset()] == 0
    assert math.isnan(series["csrn_sessions", frozenset()])


def test_a_request_without_a_key_is_counted_by_its_route(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, api_keys="ann:s") as client:
        change = Change(client)
        assert client.delete("/v1/sessions/x").status_code == 401
        assert change.requests("DELETE", "/v1/sessions/{session_id}", 401) == 1


def test_metrics_need_no_key_and_count_the_sessions_of_all_keys(weights: Path, tmp_path: Path) -> None:
    with client_of(weights, tmp_path, api_keys="ann:a,bob:b") as client:
        for key in "ab":
            new_session(client, headers=bearer(key))
        assert scraped(client)["csrn_sessions", frozenset()] == 2
        described = client.get("/openapi.json").json()["paths"]["/metrics"]["get"]
    assert [*described["responses"]["200"]["content"]] == ["text/plain"]
    assert "security" not in described


def test_the_dashboard_shows_every_metric_and_no_other(client: TestClient) -> None:
    client.get("/v1/model")
    text = client.get("/metrics").text
    there = set(re.findall(r"^(\w+)(?:\{| )", text, re.MULTILINE))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    shown = {name for expr in expressions for name in re.findall(r"\b(?:csrn|http|process)_\w+", expr)}
    assert shown <= there
    families = re.findall(r"^# TYPE ((?:csrn|http)_\w+) ", text, re.MULTILINE)
    assert not [family for family in families if not any(name.startswith(family) for name in shown)]
