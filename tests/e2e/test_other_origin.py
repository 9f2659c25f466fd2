"""A web page of another origin uses the service by fetch and WebSocket, in a real Chromium."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import needs_chromium, open_page
from tests.support.service import Service

pytestmark = needs_chromium
USE_SERVICE = """async ([url, key]) => {
  const headers = { Authorization: `Bearer ${key}` };
  const session = await (await fetch(`${url}/v1/sessions`, { method: "POST", headers })).json();
  const photo = async (name) => (await fetch(`${url}/samples/${name}`)).blob();
  for (const label of ["anger", "surprise"]) {
    const form = new FormData();
    form.append("images", await photo(`${label}/00.jpg`));
    await fetch(`${url}/v1/sessions/${session.id}/classes/${label}`, { method: "PUT", headers, body: form });
  }
  const query = new FormData();
  query.append("images", await photo("surprise/05.jpg"));
  const path = `${url}/v1/sessions/${session.id}`;
  const answer = await (await fetch(`${path}/classify`, { method: "POST", headers, body: query })).json();
  const refused = await fetch(`${path}/classify`, { method: "POST" });
  const frame = await photo("anger/05.jpg");
  const stream = new WebSocket(`${path}/stream`.replace("http", "ws"), [
    "csrn.v1", `csrn.key.${btoa(key).replaceAll("=", "")}`,
  ]);
  const live = await new Promise((resolve) => {
    stream.onopen = () => stream.send(frame);
    stream.onmessage = (event) => resolve(JSON.parse(event.data));
    stream.onclose = (event) => resolve(event.reason);
  });
  return {
    photo: answer.results[0].faces[0].predicted,
    live: live.faces[0].predicted,
    refused: [(await refused.json()).code, refused.headers.get("x-request-id").length],
  };
}"""
TRY_SERVICE = """async ([url, key, session]) => {
  const headers = { Authorization: `Bearer ${key}` };
  const read = await fetch(`${url}/v1/model`, { headers }).then((r) => r.status, (error) => error.name);
  const stream = new WebSocket(`${url}/v1/sessions/${session}/stream`.replace("http", "ws"), [
    "csrn.v1", `csrn.key.${btoa(key).replaceAll("=", "")}`,
  ]);
  const closed = await new Promise((resolve) => { stream.onclose = (event) => resolve(event.reason); });
  return [read, closed];
}"""
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def other_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with one page, which has an origin for each name of this machine."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text(
        "<!doctype html><title>Another origin</title><link rel=icon href=data:,>"
    )
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_listed_page_teaches_classifies_and_streams_and_another_page_cannot(
    other_port: int, browser: Browser, tmp_path: Path
) -> None:
    listed, other = f"http://localhost:{other_port}", f"http://127.0.0.1:{other_port}"
    with Service(tmp_path, CSRN_API_KEYS=f"me:{KEY}", CSRN_ALLOWED_ORIGINS=listed) as service:
        uses = (service.url, service.url.replace("http", "ws"))
        with open_page(browser, listed, uses=uses) as page:
            used: dict[str, Any] = page.evaluate(USE_SERVICE, [service.url, KEY])
        assert used == {"photo": "surprise", "live": "anger", "refused": ["unauthorized", 32]}
        service.client.headers["Authorization"] = f"Bearer {KEY}"
        session = service.client.get("/v1/sessions").json()["sessions"][0]["id"]
        with open_page(browser, other, uses=uses) as page:
            tried = page.evaluate(TRY_SERVICE, [service.url, KEY, session])
        assert tried == ["TypeError", "forbidden_origin"]
