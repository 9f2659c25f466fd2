"""Uploads made to cost as much as they can: memory stays bounded, and the service answers after them."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from model.vision.images import MAX_PIXELS
from tests.support.samples import EXPRESSIONS, sample_bytes
from tests.support.service import Service, teach

pytestmark = pytest.mark.soak
UPLOADS = 50
MAX_RSS_MB = 2500
"""What docs/reliability.md states"""


def largest_image(image_format: str) -> bytes:
    """As many pixels as are taken, in a few KB."""
    buffer = io.BytesIO()
    Image.new("RGB", (5000, MAX_PIXELS // 5000)).save(buffer, image_format, lossless=True)
    return buffer.getvalue()


def heaviest_body() -> bytes:
    """As many bytes as an image may have."""
    return bytes(10 * 2**20)


def test_memory_is_bounded_under_the_worst_uploads(tmp_path: Path) -> None:
    service = Service(tmp_path)
    process = psutil.Process(service.pid)
    peak_mb, statuses = 0.0, list[int]()

    async def attack(path: str) -> None:
        nonlocal peak_mb
        bombs = [("images", (kind, largest_image(kind), "image/png")) for kind in ("PNG", "WEBP", "WEBP")]
        heavy = [("images", (f"{index}.jpg", heaviest_body(), "image/jpeg")) for index in range(6)]

        async def upload(number: int) -> None:
            async with httpx.AsyncClient(base_url=service.url, timeout=300) as client:
                files = bombs if number % 2 else heavy
                statuses.append((await client.post(f"{path}/classify", files=files)).status_code)

        async def watch() -> None:
            nonlocal peak_mb
            while True:
                peak_mb = max(peak_mb, process.memory_info().rss / 2**20)
                await asyncio.sleep(0.05)

        watching = asyncio.ensure_future(watch())
        await asyncio.gather(*(upload(number) for number in range(UPLOADS)))
        watching.cancel()

    try:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            path = teach(client, EXPRESSIONS, 1)
            asyncio.run(attack(path))
            print(f"\npeak {peak_mb:.0f} MB; answers {sorted(set(statuses))}")
            assert set(statuses) <= {200, 400, 429}
            assert 200 in statuses
            assert peak_mb < MAX_RSS_MB
            after = client.post(
                f"{path}/classify", files=[("images", ("q.jpg", sample_bytes("anger", 4), "image/jpeg"))]
            )
            assert after.status_code == 200
    finally:
        assert service.stop() == 0
