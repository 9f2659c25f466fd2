"""The log and the traces of a real service tell operators what happened and hide what users sent."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.support.api import bearer, image, new_session
from tests.support.samples import encoded, sample_image
from tests.support.service import Service
from tests.support.trace_collector import TraceCollector, trace_collector

MARK = "SECRETMARK"
KEY, LABEL = f"key-{MARK}-1", f"label {MARK} ä笑"
MARKED_IMAGE = encoded(sample_image("anger", 0), "JPEG", comment=MARK.encode())
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    with trace_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, collector: TraceCollector) -> Iterator[Service]:
    with Service(
        tmp_path_factory.mktemp("observed"),
        CSRN_API_KEYS=f"ann:{KEY}",
        CSRN_LOG_LEVEL="debug",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        OTEL_BSP_SCHEDULE_DELAY="100",
    ) as service:
        service.client.headers.update(bearer(KEY))
        yield service


def wait_for(found: Callable[[], list[Any]], count: int) -> list[Any]:
    """What is found once it has at least this many entries."""
    for _ in range(200):
        if len(entries := found()) >= count:
            return entries
        time.sleep(0.05)
    raise AssertionError(entries)


def log_lines(service: Service, request_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in service.log_text.splitlines()]
    return [line for line in lines if line.get("request_id") == request_id]


def test_a_request_is_a_log_line_and_a_trace_with_its_stages(
    service: Service, collector: TraceCollector
) -> None:
    path = new_session(service.client)
    service.client.post(f"{path}/classes/a/examples", files=[image(MARKED_IMAGE)])
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "mine"}
    service.client.post(f"{path}/classify", files=[image(MARKED_IMAGE)], headers=headers)
    (line,) = wait_for(lambda: log_lines(service, "mine"), 1)
    assert (line["method"], line["route"]) == ("POST", "/v1/sessions/{session_id}/classify")
    assert (line["status"], line["key"], line["trace_id"]) == (200, "ann", TRACE)
    spans = wait_for(lambda: [span for span in collector.spans if span["traceId"].lower() == TRACE], 4)
    by_name = {span["name"]: span for span in spans}
    request = by_name.pop("POST /v1/sessions/{session_id}/classify")
    assert request["parentSpanId"].lower() == PARENT
    assert by_name.keys() == {"support", "faces", "network"}
    assert {span["parentSpanId"] for span in by_name.values()} == {request["spanId"]}
    resource = json.loads(collector.bodies[0])["resourceSpans"][0]["resource"]["attributes"]
    assert {"key": "service.name", "value": {"stringValue": "csrn-serve"}} in resource


def requests_with_marks(service: Service) -> list[httpx.Response]:
    """Valid and invalid requests with the mark wherever a client can put text."""
    client, marked = service.client, image(MARKED_IMAGE, f"{MARK}.jpg")
    path = new_session(client, json={"metadata": {MARK: MARK}})
    in_class = f"{path}/classes/{urllib.parse.quote(LABEL, safe='')}"
    ids, form = {"example_ids": [MARK]}, {"content-type": f"multipart/form-data; boundary={MARK}"}
    return [
        client.post(f"{in_class}/examples", files=[marked], data=ids),
        client.post(f"{in_class}/examples", files=[marked], data=ids),
        client.post(f"{path}/classify?q={MARK}", files=[marked, image(MARK.encode())]),
        client.post(f"{path}/classify", files=[image(MARK.encode())]),
        client.post(f"{path}/classify", content=f"--{MARK}\r\n{MARK}", headers=form),
        client.get(in_class),
        client.delete(f"{in_class}/examples/{MARK}"),
        client.get(f"/{MARK}?key={KEY}"),
        client.get(path, headers=bearer(f"wrong-{MARK}")),
        client.get(f"/v1/sessions?cursor={MARK}", headers={"X-Request-ID": f"a {MARK}", "User-Agent": MARK}),
        client.post("/v1/sessions", json={"metadata": {MARK: [MARK]}}),
        client.post("/v1/sessions/import", content=client.get(f"{path}/export").content),
        client.post("/v1/sessions/import", content=MARK.encode() * 9),
    ]


def test_log_and_traces_hide_what_users_send(service: Service, collector: TraceCollector) -> None:
    statuses = [response.status_code for response in requests_with_marks(service)]
    assert {200, 201, 400, 401, 404, 409, 422} <= {*statuses}
    encoded_key = base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("=")
    protocols = [Subprotocol("csrn.v1"), Subprotocol(f"csrn.key.{encoded_key}")]
    path = new_session(service.client, json={"name": MARK})
    url = f"{service.url}{path}/stream".replace("http", "ws")
    with (
        connect(f"{url}?q={MARK}", subprotocols=protocols) as refused,
        pytest.raises(ConnectionClosedError, match="invalid_request"),
    ):
        refused.recv(30)
    with connect(url, subprotocols=protocols) as stream:
        stream.send(MARKED_IMAGE)
        stream.recv(30)
        stream.close(1000, MARK)
    service.client.get("/v1/sessions", headers={"X-Request-ID": "last"})
    wait_for(lambda: log_lines(service, "last"), 1)
    wait_for(lambda: [span for span in collector.spans if "parentSpanId" not in span], len(statuses) + 3)
    hidden = [MARK, encoded_key[:16], base64.b64encode(MARKED_IMAGE[:60]).decode()[:40], "笑", "%E7%AC%91"]
    text = service.log_text + b"".join(collector.bodies).decode()
    assert not [secret for secret in hidden if secret in text or json.dumps(secret)[1:-1] in text]
