"""The example page on another origin teaches by camera and shows the stream, in a real Chromium."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import needs_chromium, open_page
from tests.support.documents import ROOT
from tests.support.samples import sample_bytes
from tests.support.service import Service

pytestmark = needs_chromium
PAGE = ROOT / "docs" / "examples" / "web-page"
SEND_WRONG_KEY = """async (url) => {
  const refused = await fetch(`${url}/v1/sessions`, { headers: { Authorization: "Bearer wrong" } });
  return [(await refused.json()).code, refused.headers.get("x-request-id").length];
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


@pytest.fixture
def copied_page(tmp_path: Path) -> Path:
    return shutil.copytree(PAGE, tmp_path / "web-page")


@pytest.fixture
def other_port(copied_page: Path) -> Iterator[int]:
    """The port of a server of the copied page. The page has an origin for each name of this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(copied_page))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_listed_page_teaches_by_camera_and_streams_and_another_page_cannot(
    other_port: int, copied_page: Path, browser: Browser, tmp_path: Path
) -> None:
    listed, other = f"http://localhost:{other_port}", f"http://127.0.0.1:{other_port}"
    with Service(tmp_path, CSRN_API_KEYS=f"me:{KEY}", CSRN_ALLOWED_ORIGINS=listed) as service:
        service.client.headers["Authorization"] = f"Bearer {KEY}"
        uses = (service.url, service.url.replace("http", "ws"))
        script = copied_page / "page.js"
        program = script.read_text()
        assert "http://127.0.0.1:8000" in program
        script.write_text(program.replace("http://127.0.0.1:8000", service.url))
        # A link cannot send the camera's frames to another service: the page would fail on its request.
        with open_page(browser, f"{listed}/?service=http://127.0.0.1:9#{KEY}", uses=(listed, *uses)) as page:
            page.get_by_role("button", name="Start the camera").click()
            page.get_by_label("Make a face, and name it").fill("grumpy 😠")
            with page.expect_response("**/examples"):
                page.get_by_role("button", name="Teach it").click()
            expect(page.get_by_role("status")).to_have_text("grumpy 😠")
            (session,) = service.client.get("/v1/sessions").json()["sessions"]
            path = f"/v1/sessions/{session['id']}/classes/surprise/examples"
            service.client.post(path, files={"images": sample_bytes("surprise", 0)}).raise_for_status()
            expect(page.get_by_role("listitem")).to_have_text(["grumpy 😠", "surprise"])
            assert page.evaluate(SEND_WRONG_KEY, service.url) == ["unauthorized", 32]
        with open_page(browser, other, uses=uses) as page:
            tried = page.evaluate(TRY_SERVICE, [service.url, KEY, session["id"]])
        assert tried == ["TypeError", "forbidden_origin"]
