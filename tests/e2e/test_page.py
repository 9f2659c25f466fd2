"""The page in a real Chromium, as a person with a camera uses it."""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Camera, needs_chromium, open_page
from tests.support.page_views import ARTEFACTS, answer, card, look, shots
from tests.support.service import Service

pytestmark = needs_chromium
expect.set_options(timeout=20_000)
LIMIT_S = 60
"""The time in which someone who has never seen the page teaches it three expressions"""
KEY = "right/+key"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a key, for the tests of this module."""
    with Service(tmp_path_factory.mktemp("service"), CSRN_API_KEYS=f"me:{KEY}") as service:
        yield service


def follow_step(page: Page, title: str, name: str) -> None:
    """Do what the current step of the first visit says."""
    current = page.locator(".step.current")
    expect(current).to_contain_text(title)
    current.get_by_label("Name").fill(name)
    current.get_by_role("button", name="Capture it").click()
    expect(page.locator("#capture-sign")).to_contain_text(name)
    expect(page.locator("#stage")).to_be_in_viewport(ratio=1)


def test_a_newcomer_teaches_three_expressions_and_sees_them_recognised_within_a_minute(
    service: Service, browser: Browser, camera: Camera
) -> None:
    camera.show("happiness")
    with open_page(browser, service.url, key=KEY) as page:
        started = time.monotonic()
        expect(page.locator(".primary:visible")).to_have_count(1)
        follow_step(page, "Show an expression", "smile")
        expect(page.locator(".step.current")).to_contain_text("Show another one")
        camera.show("anger")
        follow_step(page, "Show another one", "grumpy")
        expect(page.locator(".step.current")).to_contain_text("Watch it recognise you")
        page.get_by_role("button", name="Watch it recognise me").click()
        expect(answer(page)).to_have_text("Looks like grumpy")
        camera.show("surprise")
        page.get_by_label("New expression").fill("surprised")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Capture surprised").click()
        expect(page.locator("#countdown")).to_be_visible()
        page.wait_for_selector(".flying")  # from the preview to the card
        expect(page.locator("#stage")).to_be_in_viewport(ratio=1)
        expect(shots(page, "surprised")).to_have_count(6)
        for expression, name in (("happiness", "smile"), ("anger", "grumpy"), ("surprise", "surprised")):
            camera.show(expression)
            expect(answer(page)).to_have_text(f"Looks like {name}")
        assert time.monotonic() - started < LIMIT_S
        expect(page.locator("#announced")).to_have_text("Looks like surprised")
        camera.show("sadness")
        expect(answer(page)).to_have_text("Unknown")
        camera.show("happiness")
        expect(answer(page)).to_have_text("Looks like smile")
        expect(page.locator(".verdict[data-verdict=clear]")).to_have_count(3)
        look(page, "taught")
        if ARTEFACTS:  # the picture in the README: copy it to docs/images
            page.set_viewport_size({"width": 1280, "height": 960})
            page.mouse.move(0, 0)
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(300)
            picture = Image.open(io.BytesIO(page.screenshot()))
            picture.convert("RGB").quantize(256, kmeans=3).save(Path(ARTEFACTS) / "page.png", optimize=True)


def test_the_page_can_be_used_by_keyboard_alone_and_by_finger_on_a_phone(
    service: Service, browser: Browser, camera: Camera
) -> None:
    camera.show("anger")
    with open_page(browser, service.url, key=KEY, width=390, height=844, dark=True, quick=True) as page:
        look(page, "first-visit")
        page.get_by_label("Name").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".step.current")).to_contain_text("Show another one")
        # The focus goes on to the field of the next step, which suggests a name.
        expect(page.get_by_label("Name", exact=True)).to_be_focused()
        expect(page.get_by_label("Name", exact=True)).to_have_value("neutral")
        camera.show("surprise")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Watch it recognise me")).to_be_focused()
        capture = page.get_by_role("button", name="Capture smile")
        capture.focus()
        before = shots(page, "smile").count()
        page.keyboard.down(" ")
        expect(shots(page, "smile").nth(before + 2)).to_be_visible()
        expect(page.locator("#stage")).to_be_in_viewport(ratio=1)
        page.keyboard.up(" ")
        expect(page.locator("#capture-sign")).to_be_hidden()
        expect(capture).to_be_focused()
        # The settings of a series are kept.
        page.get_by_role("button", name="Capture settings").press("Enter")
        expect(page.get_by_label("Countdown")).to_be_visible()
        for _ in range(3):
            page.get_by_label("Shots in a series").press("ArrowLeft")
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Capture settings")).to_be_focused()
        camera.show("sadness")  # no shot may be a duplicate
        held = shots(page, "smile").count() + 2
        capture.press("Enter")
        expect(shots(page, "smile")).to_have_count(held)
        expect(page.locator("#capture-sign")).to_be_hidden()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the cross of the first shot
        expect(shots(page, "smile")).to_have_count(held - 1)
        expect(page.get_by_role("button", name="Remove shot 1 of smile")).to_be_focused()
        # The strip with the preview stays at the top when the page is scrolled.
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("#stage")).to_be_in_viewport(ratio=1)
        expect(answer(page)).to_be_in_viewport(ratio=1)
        small = page.locator("button:visible, label.button:visible, summary:visible").evaluate_all(
            "all => all.filter(e => Math.min(e.offsetWidth, e.offsetHeight) < 44).map(e => e.outerHTML)"
        )
        assert small == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_says_why_there_is_no_camera_and_takes_photos_instead(
    service: Service, browser: Browser
) -> None:
    with open_page(browser, service.url, key=KEY, allowed=()) as page:
        page.get_by_role("button", name="Capture it").click()
        expect(page.locator("#stage")).to_contain_text("The browser does not allow the camera")
        expect(page.locator(".step.current")).to_contain_text("Show an expression")
        expect(card(page, "smile")).to_contain_text("No shots yet")


def test_the_page_asks_for_a_key_and_waits_for_a_service_that_restarts(
    service: Service, browser: Browser, camera: Camera
) -> None:
    camera.show("anger")
    with open_page(browser, service.url, quick=True) as page:
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("needs an API key")
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(alert).to_contain_text("not accepted")
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        page.get_by_label("Name").fill("grumpy")
        page.keyboard.press("Enter")
        expect(shots(page, "grumpy").nth(2)).to_be_visible()
        page.get_by_role("button", name="Use it by API").click()
        expect(page.get_by_label("curl", exact=True)).to_contain_text("Authorization: Bearer YOUR_KEY")
        page.get_by_role("button", name="Close").click()
        service.stop(signal.SIGKILL)
        expect(alert).to_contain_text("does not answer")
        service.start()
        with page.expect_websocket(timeout=60_000) as stream:
            expect(alert).to_be_hidden(timeout=60_000)
        received = json.loads(str(stream.value.wait_for_event("framereceived")))
        assert received["faces"][0]["predicted"] == "grumpy"
        kept = [picture.get_attribute("src") for picture in shots(page, "grumpy").locator("img").all()]
        page.get_by_role("button", name="Remove shot 2 of grumpy").click()
        expect(shots(page, "grumpy")).to_have_count(len(kept) - 1)
        left = [picture.get_attribute("src") for picture in shots(page, "grumpy").locator("img").all()]
        assert left == [kept[0], *kept[2:]]
