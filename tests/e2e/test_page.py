"""The page as people use it: in a real Chromium, with a camera that plays sample faces."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.bench.service_process import ServiceProcess
from tests.support.browser import camera_file, needs_chromium, open_page
from tests.support.samples import SAMPLES

pytestmark = needs_chromium
expect.set_options(timeout=20_000)
ARTEFACTS = os.environ.get("CSRN_TEST_ARTEFACTS")
"""A folder for screenshots, where they are wanted"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("service")
    service = ServiceProcess(folder / "serve.log", {"CSRN_STORE": f"sqlite:///{folder}/s.sqlite3"})
    service.wait_until_ready()
    yield service
    service.stop()


def screenshot(page: Page, name: str) -> None:
    if ARTEFACTS:
        page.screenshot(path=Path(ARTEFACTS) / f"{name}.png", full_page=True)


def add_class(page: Page, label: str) -> None:
    page.get_by_label("New class").fill(label)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", name=label)).to_be_visible()


def hold(page: Page, label: str, *, until: int) -> None:
    """Hold the capture button with the mouse until so many examples are there."""
    button = page.get_by_role("button", name=f"Hold to capture examples of {label}")
    expect(button).to_be_enabled()
    button.hover()
    page.mouse.down()
    expect(page.locator(".class", has_text=label).locator(".thumbnail img").nth(until - 1)).to_be_visible()
    page.mouse.up()


def settled_count(page: Page) -> int:
    """Examples shown, once the shot that was under way when the button was let go has come."""
    thumbnails, count = page.locator(".thumbnail img"), -1
    while count != thumbnails.count():
        count = thumbnails.count()
        page.wait_for_timeout(1000)
    return count


def assert_accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [entry["id"] for entry in found if entry["impact"] in ("serious", "critical")]
    assert serious == []


def test_a_newcomer_teaches_three_classes_and_sees_each_win(service: ServiceProcess, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    taught = {"anger": "grumpy", "happiness": "jolly", "surprise": "wow 驚き"}
    examples = 0
    for number, (expression, label) in enumerate(taught.items()):
        with open_page(service.url, profile, camera=camera_file(tmp_path, expression)) as page:
            # What was taught before is there after the reload, small pictures too.
            expect(page.locator(".class")).to_have_count(number)
            expect(page.locator(".thumbnail img")).to_have_count(examples)
            page.get_by_role("button", name="Start the camera").click()
            add_class(page, label)
            hold(page, label, until=3)
            expect(page.locator("#predicted")).to_contain_text(label)
            examples = settled_count(page)
    with open_page(service.url, profile, camera=camera_file(tmp_path, "anger")) as page:
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#predicted")).to_have_text("Looks like: grumpy")
        expect(page.get_by_role("meter", name="grumpy")).to_be_visible()
        expect(page.locator("#latency")).to_contain_text("ms a frame")
        page.get_by_label("Show the parts of each score").check()
        expect(page.get_by_role("meter", name="eyes").first).to_be_visible()
        expect(page.get_by_role("meter", name="movements").first).to_be_visible()
        expect(page.locator("#parts-help")).to_contain_text("how alike the movements of the face are")
        page.get_by_role("button", name="How well is it taught?").click()
        expect(page.locator(".verdict")).to_have_count(3)
        assert_accessible(page)
        screenshot(page, "live")


def test_the_samples_serve_who_has_no_camera(service: ServiceProcess, tmp_path: Path) -> None:
    with open_page(service.url, tmp_path / "profile", camera=None, dark=True) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        page.get_by_role("button", name="Try the samples").click()
        page.get_by_role("button", name="Ask about a sample of happiness").click()
        expect(page.locator("#predicted")).to_have_text("Looks like: happiness")
        expect(page.get_by_role("img", name="A face, marked, with its eyes and lips")).to_be_visible()
        # Taught away, it is asked about anew.
        with page.expect_response("**/classify"):
            page.get_by_role("button", name="Remove the class happiness").click()
        expect(page.get_by_role("meter", name="happiness")).to_have_count(0)
        page.get_by_label("Ask about a photo").set_input_files(SAMPLES / "anger" / "05.jpg")
        expect(page.locator("#predicted")).to_have_text("Looks like: anger")
        assert_accessible(page)
        screenshot(page, "samples-on-a-phone-in-the-dark")


def test_what_is_not_taken_is_said_in_words(service: ServiceProcess, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no image")
    with open_page(service.url, tmp_path / "profile", camera=None) as page:
        add_class(page, "calm")
        page.get_by_label("Add photos: calm").set_input_files(
            [SAMPLES / "anger" / "00.jpg", tmp_path / "notes.jpg"]
        )
        expect(page.get_by_role("log")).to_contain_text("Not taken for calm: it cannot be read as an image")
        expect(page.locator(".thumbnail img")).to_have_count(1)


def test_a_session_is_exported_imported_and_deleted(service: ServiceProcess, tmp_path: Path) -> None:
    with open_page(service.url, tmp_path / "profile", camera=None) as page:
        page.get_by_role("button", name="Try the samples").click()
        expect(page.locator(".thumbnail img")).to_have_count(9)
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        download.value.save_as(tmp_path / "mine.safetensors")
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Delete everything").click()
        expect(page.locator(".class")).to_have_count(0)
        page.get_by_label("Import").set_input_files(tmp_path / "mine.safetensors")
        expect(page.locator(".class")).to_have_count(3)
        expect(page.locator("#status")).to_have_text("The session was imported.")


def test_it_works_by_keyboard_alone(service: ServiceProcess, tmp_path: Path) -> None:
    with open_page(service.url, tmp_path / "profile", camera=camera_file(tmp_path, "surprise")) as page:
        page.get_by_role("button", name="Start the camera").focus()
        page.keyboard.press("Enter")
        page.get_by_label("New class").focus()
        page.keyboard.type("wow")
        page.keyboard.press("Enter")
        button = page.get_by_role("button", name="Hold to capture examples of wow")
        expect(button).to_be_enabled()
        button.focus()
        page.keyboard.down(" ")
        expect(page.locator(".thumbnail img").nth(1)).to_be_visible()
        page.keyboard.up(" ")
        expect(page.locator("#predicted")).to_contain_text("wow")


def test_a_camera_that_is_not_allowed_is_said(service: ServiceProcess, tmp_path: Path) -> None:
    with open_page(service.url, tmp_path / "profile", camera=None, allowed=False) as page:
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#status")).to_contain_text("The browser gives no access to the camera")


def test_a_service_that_went_away_is_waited_for(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "serve.log", {"CSRN_STORE": f"sqlite:///{tmp_path}/s.sqlite3"})
    service.wait_until_ready()
    try:
        with open_page(service.url, tmp_path / "p", camera=camera_file(tmp_path, "anger")) as page:
            page.get_by_role("button", name="Start the camera").click()
            add_class(page, "grumpy")
            hold(page, "grumpy", until=2)
            expect(page.locator("#predicted")).to_contain_text("grumpy")
            service.stop(signal.SIGKILL)
            expect(page.get_by_role("alert")).to_contain_text("does not answer")
            service.start()
            with page.expect_websocket(timeout=60_000) as stream:
                expect(page.get_by_role("alert")).to_be_hidden(timeout=60_000)
            answer = json.loads(str(stream.value.wait_for_event("framereceived")))
            assert answer["faces"][0]["predicted"] == "grumpy"
            expect(page.locator(".thumbnail img").nth(1)).to_be_visible()
    finally:
        service.stop()


def test_a_key_is_asked_for_and_a_wrong_one_refused(tmp_path: Path) -> None:
    service = ServiceProcess(
        tmp_path / "serve.log",
        {"CSRN_STORE": f"sqlite:///{tmp_path}/s.sqlite3", "CSRN_API_KEYS": "me:right/+key"},
    )
    service.wait_until_ready()
    try:
        with open_page(service.url, tmp_path / "p", camera=camera_file(tmp_path, "anger")) as page:
            expect(page.get_by_role("alert")).to_contain_text("asks for an API key")
            page.get_by_label("API key").fill("wrong")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_contain_text("not accepted")
            page.get_by_label("API key").fill("right/+key")
            page.keyboard.press("Enter")
            page.get_by_role("button", name="Start the camera").click()
            add_class(page, "grumpy")
            hold(page, "grumpy", until=1)
            expect(page.locator("#predicted")).to_contain_text("grumpy")
    finally:
        service.stop()
