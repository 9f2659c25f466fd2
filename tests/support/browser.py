"""A real Chromium with a fake camera that shows sample faces."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.support.samples import sample_image

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian's package of that name)")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
)
FRAME_WIDTH, FRAME_HEIGHT = 640, 480
QUICK = {"shots": 5, "pace_ms": 200, "countdown_s": 0}
"""Capture settings for tests of something else"""
FRAMES = 60
"""Frames of the camera's video. No two are equal, as with a real camera, so that no shot is a duplicate"""


class Camera:
    """A video file that Chromium plays as its camera. What it shows can change while the browser runs."""

    def __init__(self, folder: Path, expression: str = "anger") -> None:
        self.path = folder / "camera.y4m"
        self.path.touch()
        self.show(expression)

    def show(self, expression: str) -> None:
        """Show sample images of an expression from now on. The browser reads each frame when it plays it."""
        with self.path.open("r+b") as file:
            file.write(_video(expression))


@functools.cache
def _video(expression: str) -> bytes:
    """Sample images of an expression as a video (YUV4MPEG2) in which the face moves a little."""
    frames = []
    for index in range(FRAMES):
        frame = np.full((FRAME_HEIGHT, FRAME_WIDTH, 3), 128, dtype=np.uint8)
        face = np.asarray(sample_image(expression, 3 + index * 4 // FRAMES).resize((400, 400)))
        top, left = 38 + index % 6, 116 + index // 6
        frame[top : top + 400, left : left + 400] = face
        frames.append(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    head = f"YUV4MPEG2 W{FRAME_WIDTH} H{FRAME_HEIGHT} F10:1 Ip A1:1 C420\n".encode()
    return head + b"".join(frames)


@contextlib.contextmanager
def open_browser(camera: Camera | None = None) -> Iterator[Browser]:
    """A browser for several pages, each with a storage of its own."""
    flags = [*FLAGS]
    if camera is not None:
        flags.append(f"--use-file-for-fake-video-capture={camera.path}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextlib.contextmanager
def open_page(
    browser: Browser,
    url: str,
    *,
    allowed: tuple[str, ...] = ("camera",),
    dark: bool = False,
    width: int = 1280,
    height: int = 800,
    uses: tuple[str, ...] = (),
    quick: bool = False,
    key: str | None = None,
) -> Iterator[Page]:
    """A page of someone who has never been here: without anything stored.

    Fails on errors of the page's script, on violations of its content security policy, and on requests to
    other servers.

    Args: allowed, what the person allows the page to use; uses, the beginnings of further addresses that the
        page may request; quick, whether a series is captured without a countdown; key, the API key
        that the person has given before.
    """
    faults: list[str] = []

    def check_message(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            faults.append(message.text)

    def check_request(request: Request) -> None:
        if not request.url.startswith((url, *uses, "blob:", "data:")):
            faults.append(request.url)

    context: BrowserContext = browser.new_context(
        permissions=[*allowed],
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": height},
        accept_downloads=True,
    )
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", check_message)
    page.on("request", check_request)
    if quick:
        page.add_init_script(f"localStorage.setItem('csrn.capture', JSON.stringify({QUICK}))")
    if key is not None:
        page.add_init_script(f"sessionStorage.setItem('csrn.key', {json.dumps(key)})")
    page.goto(url)
    yield page
    context.close()
    assert not faults, faults
