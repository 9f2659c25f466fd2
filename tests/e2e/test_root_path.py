"""The page in a real Chromium, below a path of a real HAProxy that passes the path on or removes it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from app.bench.service_process import free_port
from tests.support.browser import needs_chromium, open_page
from tests.support.page_views import answer, try_samples
from tests.support.proxied import HAPROXY, needs_haproxy
from tests.support.service import Service

pytestmark = [needs_chromium, needs_haproxy]
expect.set_options(timeout=20_000)
KEY = "a-key-of-this-test"
CONFIG = """
defaults
    mode http
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend passes_the_path_on
    bind 127.0.0.1:{passing}
    http-request deny unless {{ path_beg /faces/ }}
    default_backend service
frontend removes_the_path
    bind 127.0.0.1:{removing}
    http-request deny unless {{ path_beg /faces/ }}
    http-request replace-path /faces(/.*) \\1
    default_backend service
backend service
    server one 127.0.0.1:{service}
"""


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of the service behind each kind of proxy."""
    folder = tmp_path_factory.mktemp("proxies")
    ports = {"passing": free_port(), "removing": free_port()}
    with Service(folder, CSRN_API_KEYS=f"me:{KEY}", CSRN_ROOT_PATH="/faces") as service:
        config = folder / "haproxy.cfg"
        config.write_text(CONFIG.format(**ports, service=service.port))
        haproxy = subprocess.Popen([str(HAPROXY), "-db", "-f", config])
        yield {kind: f"http://127.0.0.1:{port}/faces/" for kind, port in ports.items()}
        haproxy.kill()
        haproxy.wait()


@pytest.mark.parametrize("kind", ["passing", "removing"])
def test_the_page_and_the_documentation_work_below_a_path(
    proxies: dict[str, str], browser: Browser, kind: str
) -> None:
    with open_page(browser, proxies[kind]) as page:
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        try_samples(page)
        page.get_by_role("button", name="Start camera").click()
        expect(answer(page)).to_have_text("Looks like anger")
        page.get_by_role("link", name="API documentation").click()
        expect(page.locator(".servers option")).to_have_text("/faces")
        page.locator(".opblock-summary-path", has_text="readyz").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
