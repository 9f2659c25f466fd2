"""The page in a real Chromium, with a camera that plays sample faces."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.browser import camera_file, needs_chromium, open_page
from tests.support.samples import SAMPLES
from tests.support.service import Service

pytestmark = needs_chromium
expect.set_options(timeout=20_000)
ARTEFACTS = os.environ.get("CSRN_TEST_ARTEFACTS")
"""A folder for screenshots; without it none are taken"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service")) as service:
        yield service


def teach(page: Page, label: str, *, examples: int) -> None:
    """Start the camera, add a class, and hold its capture button until it has this many examples."""
    page.get_by_role("button", name="Start the camera").click()
    add_class(page, label)
    button = page.get_by_role("button", name=f"Hold to capture examples of {label}")
    expect(button).to_be_enabled()
    button.hover()
    page.mouse.down()
    thumbnails = page.locator(".class", has_text=label).locator(".thumbnail img")
    expect(thumbnails.nth(examples - 1)).to_be_visible()
    page.mouse.up()
    expect(page.locator("#predicted")).to_contain_text(label)


def add_class(page: Page, label: str) -> None:
    page.get_by_label("New class").fill(label)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", name=label)).to_be_visible()


def settled_count(page: Page) -> int:
    """Number of examples, including one that was still being captured when the button was released."""
    thumbnails, count = page.locator(".thumbnail img"), -1
    while count != thumbnails.count():
        count = thumbnails.count()
        page.wait_for_timeout(1000)
    return count


def check_accessibility(page: Page, screenshot: str) -> None:
    found = Axe().run(page).response["violations"]
    assert [entry["id"] for entry in found if entry["impact"] in ("serious", "critical")] == []
    if ARTEFACTS:
        page.screenshot(path=Path(ARTEFACTS) / f"{screenshot}.png", full_page=True)


def test_classes_taught_by_camera_and_keyboard_are_predicted_and_survive_reloads(
    service: Service, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    with open_page(service.url, profile, camera=camera_file(tmp_path, "anger")) as page:
        teach(page, "grumpy", examples=3)
        examples = settled_count(page)
    with open_page(service.url, profile, camera=camera_file(tmp_path, "surprise")) as page:
        expect(page.locator(".class")).to_have_count(1)
        expect(page.locator(".thumbnail img")).to_have_count(examples)
        page.get_by_role("button", name="Start the camera").focus()
        page.keyboard.press("Enter")
        page.get_by_label("New class").focus()
        page.keyboard.type("wow 驚き")
        page.keyboard.press("Enter")
        button = page.get_by_role("button", name="Hold to capture examples of wow 驚き")
        expect(button).to_be_enabled()
        button.focus()
        page.keyboard.down(" ")
        expect(page.locator(".thumbnail img").nth(examples + 2)).to_be_visible()
        page.keyboard.up(" ")
        expect(page.locator("#predicted")).to_have_text("Looks like: wow 驚き")
        expect(page.get_by_role("meter", name="grumpy")).to_be_visible()
        expect(page.locator("#latency")).to_contain_text("ms per frame")
        page.get_by_label("Show the parts of each score").check()
        expect(page.get_by_role("meter", name="eyes").first).to_be_visible()
        expect(page.get_by_role("meter", name="movements").first).to_be_visible()
        expect(page.locator("#parts-help")).to_contain_text("how similar the movements of the faces are")
        page.get_by_role("button", name="Check the examples").click()
        expect(page.locator(".verdict")).to_have_count(2)
        check_accessibility(page, "live")


def test_a_session_of_samples_can_be_tried_exported_deleted_and_imported(
    service: Service, tmp_path: Path
) -> None:
    with open_page(service.url, tmp_path / "profile", dark=True) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        page.get_by_role("button", name="Try the samples").click()
        expect(page.locator(".thumbnail img")).to_have_count(9)
        page.get_by_role("button", name="Classify a sample of happiness").click()
        expect(page.locator("#predicted")).to_have_text("Looks like: happiness")
        expect(page.get_by_role("img", name="A face with its outline, eyes and lips marked")).to_be_visible()
        # The photo is classified again without the class.
        with page.expect_response("**/classify"):
            page.get_by_role("button", name="Remove the class happiness").click()
        expect(page.get_by_role("meter", name="happiness")).to_have_count(0)
        page.get_by_label("Classify a photo").set_input_files(SAMPLES / "anger" / "05.jpg")
        expect(page.locator("#predicted")).to_have_text("Looks like: anger")
        check_accessibility(page, "samples-on-a-dark-phone")
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        download.value.save_as(tmp_path / "mine.safetensors")
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Delete everything").click()
        expect(page.locator(".class")).to_have_count(0)
        page.get_by_label("Import").set_input_files(tmp_path / "mine.safetensors")
        expect(page.locator(".class")).to_have_count(2)
        expect(page.locator("#status")).to_have_text("The session was imported.")


def test_without_a_camera_photos_can_be_added_and_the_page_says_why_one_is_not(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "notes.jpg").write_text("no image")
    with open_page(service.url, tmp_path / "profile", allowed=False) as page:
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#status")).to_contain_text("The browser does not allow the camera")
        add_class(page, "calm")
        photos = [SAMPLES / "anger" / "00.jpg", tmp_path / "notes.jpg"]
        page.get_by_label("Add photos: calm").set_input_files(photos)
        expect(page.get_by_role("log")).to_contain_text("Not added to calm: the file is not a readable image")
        expect(page.locator(".thumbnail img")).to_have_count(1)


def test_the_page_asks_for_a_key_and_waits_for_a_service_that_restarts(tmp_path: Path) -> None:
    camera = camera_file(tmp_path, "anger")
    with (
        Service(tmp_path, CSRN_API_KEYS="me:right/+key") as service,
        open_page(service.url, tmp_path / "p", camera=camera) as page,
    ):
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("needs an API key")
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(alert).to_contain_text("not accepted")
        page.get_by_label("API key").fill("right/+key")
        page.keyboard.press("Enter")
        teach(page, "grumpy", examples=2)
        service.stop(signal.SIGKILL)
        expect(alert).to_contain_text("does not answer")
        service.start()
        with page.expect_websocket(timeout=60_000) as stream:
            expect(alert).to_be_hidden(timeout=60_000)
        answer = json.loads(str(stream.value.wait_for_event("framereceived")))
        assert answer["faces"][0]["predicted"] == "grumpy"
        expect(page.locator(".thumbnail img").nth(1)).to_be_visible()
