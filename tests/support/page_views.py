"""What the tests of the page have in common: its steps, its screenshots and its accessibility."""

from __future__ import annotations

import os
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

ARTEFACTS = os.environ.get("CSRN_TEST_ARTEFACTS")
"""A folder for screenshots; without it none are taken"""
WIDTHS_PX = {390: 844, 768: 1024, 1280: 800, 1920: 1080}
"""The widths that the page is designed for, with a height"""

STILL = """() => Promise.all(document.getAnimations()
    .filter((motion) => motion.effect.getComputedTiming().endTime !== Infinity)
    .map((motion) => motion.finished.catch(() => {})))"""
"""Waits until all motions have ended, because axe-core measures contrast in the current picture"""


def look(page: Page, name: str) -> None:
    """Check the accessibility, and take screenshots of all widths and themes if a folder for them is set."""
    page.wait_for_timeout(150)  # a motion may be about to begin
    page.evaluate(STILL)
    violations = Axe().run(page).response["violations"]
    assert [(found["id"], found["nodes"][0]["html"]) for found in violations] == []
    if not ARTEFACTS or page.viewport_size is None:
        return
    before, dark = page.viewport_size, page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    for width, height in WIDTHS_PX.items():
        page.set_viewport_size({"width": width, "height": height})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
            page.wait_for_timeout(150)
            page.screenshot(path=Path(ARTEFACTS) / f"{name}-{width}-{theme}.png")
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size(before)


def card(page: Page, label: str) -> Locator:
    """The card of a class."""
    return page.locator(".card").filter(has=page.get_by_role("textbox", name=f"Name of {label}", exact=True))


def shots(page: Page, label: str) -> Locator:
    return card(page, label).locator(".shot")


def try_samples(page: Page) -> None:
    """Choose "Try the samples" on the first visit, and wait until a sample is recognised."""
    page.get_by_role("button", name="No camera at hand? Try the samples").click()
    expect(answer(page)).to_have_text("Looks like happiness")


def answer(page: Page) -> Locator:
    return page.locator("#predicted")


def choose_from_menu(page: Page, name: str) -> None:
    page.get_by_role("button", name="Menu").click()
    page.locator("#menu").get_by_text(name).click()
