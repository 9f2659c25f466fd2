"""A real Chromium with a fake camera that shows sample faces."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright

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


def camera_file(folder: Path, expression: str) -> Path:
    """Sample images of an expression as a video for Chromium's fake camera (YUV4MPEG2)."""
    path = folder / f"{expression}.y4m"
    frames = []
    for index in range(3, 7):
        frame = np.full((FRAME_HEIGHT, FRAME_WIDTH, 3), 128, dtype=np.uint8)
        face = np.asarray(sample_image(expression, index).resize((400, 400)))
        frame[40:440, 120:520] = face
        frames.append(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    head = f"YUV4MPEG2 W{FRAME_WIDTH} H{FRAME_HEIGHT} F10:1 Ip A1:1 C420\n".encode()
    path.write_bytes(head + b"".join(frame for frame in frames for _ in range(3)))
    return path


@contextlib.contextmanager
def open_page(
    url: str,
    profile: Path,
    *,
    camera: Path | None = None,
    allowed: bool = True,
    dark: bool = False,
    uses: tuple[str, ...] = (),
) -> Iterator[Page]:
    """The page in a browser that keeps its storage in `profile`.

    Fails on errors of the page's script, on violations of its content security policy, and on requests to
    other servers.

    Args: camera, the video of the fake camera; allowed, whether the page may use a camera; uses, the
        beginnings of further addresses that the page may request.
    """
    flags = [*FLAGS]
    if allowed:
        flags.append("--use-fake-ui-for-media-stream")
    if camera is not None:
        flags.append(f"--use-file-for-fake-video-capture={camera}")
    faults: list[str] = []

    def check_message(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            faults.append(message.text)

    def check_request(request: Request) -> None:
        if not request.url.startswith((url, *uses, "blob:", "data:")):
            faults.append(request.url)

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=flags,
            color_scheme="dark" if dark else "light",
        )
        page = context.pages[0]
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", check_message)
        page.on("request", check_request)
        page.goto(url)
        yield page
        context.close()
        assert not faults, faults
