"""What operators see of the real service: its log, its metrics and its traces, and what they must not see."""

from __future__ import annotations

import base64
import http.server
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.conftest import encoded, sample_bytes, sample_image
from tests.e2e.service import Service

KEY, WRONG_KEY = "key-SECRETMARK-k1", "wrong-SECRETMARK-k2"
LABEL, FILE, NAME = "label SECRETMARK ä/笑", "file-SECRETMARK.jpg", "name SECRETMARK"
EXAMPLE, QUERY = "example-SECRETMARK", "query-SECRETMARK"
MARK = "SECRETMARK"


class Collector:
    """A receiver of OTLP by HTTP: keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                bodies.append(body if self.path == "/v1/traces" else b"")
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for body in self.bodies
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("observed"),
        CSRN_API_KEYS=f"ann:{KEY}",
        CSRN_LOG_LEVEL="debug",
        CSRN_MAX_BODY_BYTES=str(2**20),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    service.client.headers["Authorization"] = f"Bearer {KEY}"
    yield service
    service.stop(signal.SIGTERM)


def marked_image() -> bytes:
    return encoded(sample_image("anger", 0), "JPEG", comment=MARK.encode())


def part(data: bytes) -> Any:
    return "images", (FILE, data, "image/jpeg")


def log_lines(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.log_text.splitlines()]


def line_of(service: Service, request_id: str, message: str = "request") -> dict[str, Any]:
    """The line of a request; the answer may be there a moment before."""
    deadline = time.monotonic() + 10
    while True:
        for line in log_lines(service):
            if line.get("request_id") == request_id and line["message"] == message:
                return line
        assert time.monotonic() < deadline, f"{request_id} is not in the log"
        time.sleep(0.02)


def use_everything_with_marks(service: Service) -> list[int]:
    """Requests with the mark in every place where a client can put something, well and badly."""
    client = service.client
    body = {"name": NAME, "metadata": {"k" + MARK: "v" + MARK}}
    path = "/v1/sessions/" + client.post("/v1/sessions", json=body).json()["id"]
    label, image = httpx.QueryParams({"": LABEL}).__str__()[1:].replace("+", "%20"), marked_image()
    examples = f"{path}/classes/{label}/examples"
    ids = {"example_ids": [EXAMPLE]}
    unauthorized = {"Authorization": f"Bearer {WRONG_KEY}"}
    junk = f"--{MARK}\r\nContent-Disposition: form-data; name={MARK}; filename={MARK}\r\n\r\n{MARK}"
    responses = [
        client.post(examples, files=[part(image)], data=ids),
        client.post(examples, files=[part(image)], data=ids),
        client.post(f"{path}/support", files=[part(sample_bytes("surprise", 0))], data={"labels": [LABEL]}),
        client.post(f"{path}/classify?q={QUERY}", files=[part(image), part(MARK.encode())]),
        client.post(f"{path}/classify", files=[part(MARK.encode())]),
        client.put(f"{path}/classes/{label}", files=[part(image)]),
        client.get(f"{path}/classes/{label}"),
        client.get(f"{path}/classes/{MARK}-is-not-there"),
        client.get(f"{path}/quality"),
        client.get(f"{path}/classes/{label}/examples/{MARK}/x/y"),
        client.delete(f"{path}/classes/{label}/examples/{MARK}"),
        client.get(f"/{MARK}/nowhere?key={KEY}"),
        client.patch(path),
        client.get(path, headers=unauthorized),
        client.get(f"/v1/sessions?cursor={MARK}"),
        client.post("/v1/sessions", content=f'{{"{MARK}": ', headers={"content-type": "application/json"}),
        client.post("/v1/sessions", json={"metadata": {MARK: [MARK]}}),
        client.post("/v1/sessions", content=MARK, headers={"content-type": MARK}),
        client.post("/v1/sessions/import", content=MARK.encode() * 9),
        client.post(
            f"{path}/classify",
            content=junk,
            headers={"content-type": f"multipart/form-data; boundary={MARK}"},
        ),
        client.post(f"{path}/classify", files=[part(MARK.encode() * 2**17)]),
        client.get("/livez", headers={"X-Request-ID": f"a {MARK}", "User-Agent": MARK, "Referer": MARK}),
        client.post(
            "/v1/classify", files=[("support", (FILE, image)), part(image)], data={"labels": [LABEL]}
        ),
        client.delete(f"{path}/classes/{label}"),
    ]
    exported = client.get(f"{path}/export").content
    responses.append(client.post("/v1/sessions/import", content=exported))
    return [response.status_code for response in responses]


def use_the_stream_with_marks(service: Service) -> None:
    url = service.url.replace("http", "ws")
    path = "/v1/sessions/" + service.client.post("/v1/sessions", json={"name": NAME}).json()["id"]
    ours, wrong = (base64.urlsafe_b64encode(key.encode()).decode().rstrip("=") for key in (KEY, WRONG_KEY))
    for protocol in (ours, wrong):
        with connect(
            f"{url}{path}/stream?q={QUERY}",
            subprotocols=[Subprotocol("csrn.v1"), Subprotocol(f"csrn.key.{protocol}")],
        ) as stream:
            try:
                stream.send(marked_image())
                stream.recv(30)
                stream.send(MARK)
                stream.recv(30)
            except ConnectionClosed:
                pass
            stream.close(1000, MARK)
    with pytest.raises(Exception, match=r"403|404"):
        connect(f"{url}/{MARK}/stream")


def talk_nonsense(service: Service) -> None:
    for text in (f"{MARK}\r\n\r\n", f"GET /{MARK} HTTP/1.1\r\nHost: {MARK}\r\n{MARK}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", service.port), 5) as connection:
            connection.sendall(text.encode())
            connection.recv(1000)


def test_no_image_label_name_or_key_is_in_the_log_or_the_traces(
    service: Service, collector: Collector
) -> None:
    statuses = use_everything_with_marks(service)
    assert {200, 201, 204, 400, 401, 404, 405, 409, 413, 415, 422} <= {*statuses}
    assert max(statuses) < 500
    use_the_stream_with_marks(service)
    talk_nonsense(service)
    service.client.get("/livez", headers={"X-Request-ID": "the-last"})
    line_of(service, "the-last")
    lines = log_lines(service)
    assert len([line for line in lines if line["message"] == "request"]) > len(statuses)
    assert len([line for line in lines if line["message"].startswith("stream")]) >= 5
    deadline = time.monotonic() + 10
    while sum(span["kind"] in (2, "SPAN_KIND_SERVER") for span in collector.spans) < len(statuses) - 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    hidden = [MARK, *(base64.urlsafe_b64encode(key.encode()).decode()[:16] for key in (KEY, WRONG_KEY))]
    hidden += [base64.b64encode(marked_image()[:60]).decode()[:40], "笑", "%E7%AC%91"]
    for told in (service.log_text, *(body.decode() for body in collector.bodies)):
        assert not [text for text in hidden if text in told or json.dumps(text)[1:-1] in told]


def test_a_request_is_told_by_its_id_route_and_key_name(service: Service) -> None:
    path = "/v1/sessions/" + service.client.post("/v1/sessions").json()["id"]
    headers = {"X-Request-ID": "mine-1"}
    response = service.client.get(f"{path}/classes/a", headers=headers)
    assert response.headers["x-request-id"] == "mine-1"
    line = line_of(service, "mine-1")
    assert {"time", "level", "logger", "duration_ms", "trace_id"} <= line.keys()
    told = {name: line[name] for name in ("method", "route", "status", "bytes_in", "key")}
    assert told == {
        "method": "GET",
        "route": "/v1/sessions/{session_id}/classes/{label}",
        "status": 404,
        "bytes_in": 0,
        "key": "ann",
    }


def test_a_client_that_goes_away_is_499(service: Service) -> None:
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: x\r\nX-Request-ID: gone-1\r\nContent-Length: 99\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), 5) as connection:
        connection.sendall(head.encode())
        time.sleep(0.2)
    line = line_of(service, "gone-1")
    assert (line["status"], line["route"], line["bytes_in"]) == (499, "/v1/classify", len("--b\r\n"))


def test_traces_hold_a_request_and_its_stages(service: Service, collector: Collector) -> None:
    client = service.client
    path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
    client.post(f"{path}/classes/a/examples", files=[part(marked_image())])
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{parent}-01", "X-Request-ID": "traced-1"}
    assert client.post(f"{path}/classify", files=[part(marked_image())], headers=headers).status_code == 200
    deadline = time.monotonic() + 10
    while len(spans := [span for span in collector.spans if span["traceId"].lower() == trace]) < 4:
        assert time.monotonic() < deadline, spans
        time.sleep(0.05)
    (server,) = [span for span in spans if span["parentSpanId"].lower() == parent]
    assert server["name"] == "POST /v1/sessions/{session_id}/classify"
    attributes = {entry["key"]: entry["value"] for entry in server["attributes"]}
    assert attributes.keys() == {"http.request.method", "http.route", "http.response.status_code"}
    assert attributes["http.route"] == {"stringValue": "/v1/sessions/{session_id}/classify"}
    stages = {span["name"]: span for span in spans if span is not server}
    assert stages.keys() == {"support", "faces", "network"}
    for span in stages.values():
        assert span["parentSpanId"] == server["spanId"]
        assert (
            int(server["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        )
    assert line_of(service, "traced-1")["trace_id"] == trace
    resource = json.loads(collector.bodies[-1])["resourceSpans"][0]["resource"]["attributes"]
    assert {"key": "service.name", "value": {"stringValue": "csrn-serve"}} in resource
    names = {span["name"] for span in collector.spans}
    assert not [name for name in names if "livez" in name or "readyz" in name]


def test_every_metric_of_the_dashboard_is_there_and_each_is_shown(service: Service) -> None:
    text = service.client.get("/metrics").text
    there = set(re.findall(r"^(\w+)(?:\{| )", text, re.MULTILINE))
    dashboard = json.loads((Path(__file__).parents[2] / "deploy/grafana/csrn.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    shown = {name for expr in expressions for name in re.findall(r"\b(?:csrn|process|python)_\w+", expr)}
    assert shown <= there
    families = {name for name, kind in re.findall(r"^# TYPE (csrn_\w+) (\w+)$", text, re.MULTILINE)}
    assert not [family for family in families if not any(name.startswith(family) for name in shown)]
    assert len(families) >= 17
