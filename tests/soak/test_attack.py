"""Uploads that cost as much as possible: memory stays bounded, and the service still answers."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from model.vision.images import MAX_PIXELS
from tests.support.api import image, sample
from tests.support.samples import EXPRESSIONS
from tests.support.service import Service, teach

pytestmark = pytest.mark.soak
UPLOADS = 50
MAX_IMAGE_BYTES = 10 * 2**20
MAX_RSS_MB = 2500
"""The limit in docs/reliability.md"""


def largest_image(image_format: str) -> bytes:
    """The largest number of pixels that the service accepts, in a few KB."""
    buffer = io.BytesIO()
    Image.new("RGB", (5000, MAX_PIXELS // 5000)).save(buffer, image_format, lossless=True)
    return buffer.getvalue()


def test_memory_is_bounded_under_the_worst_uploads(tmp_path: Path) -> None:
    bombs = [image(largest_image(kind), kind) for kind in ("PNG", "WEBP", "WEBP")]
    heavy = [image(bytes(MAX_IMAGE_BYTES), f"{index}.jpg") for index in range(6)]
    rss_mb: list[float] = []

    async def attack(service: Service, path: str) -> list[int]:
        """Returns the status of each answer."""

        async def upload(number: int) -> int:
            async with httpx.AsyncClient(base_url=service.url, timeout=300) as client:
                files = bombs if number % 2 else heavy
                return (await client.post(f"{path}/classify", files=files)).status_code

        async def watch() -> None:
            while True:
                rss_mb.append(psutil.Process(service.pid).memory_info().rss / 2**20)
                await asyncio.sleep(0.05)

        watching = asyncio.ensure_future(watch())
        statuses = await asyncio.gather(*map(upload, range(UPLOADS)))
        watching.cancel()
        return statuses

    with Service(tmp_path) as service:
        path = teach(service.client, EXPRESSIONS, 1)
        statuses = set(asyncio.run(attack(service, path)))
        print(f"\npeak {max(rss_mb):.0f} MB; answers {sorted(statuses)}")
        assert 200 in statuses
        assert statuses <= {200, 400, 429}
        assert max(rss_mb) < MAX_RSS_MB
        after = service.client.post(f"{path}/classify", files=[sample("anger", 4)])
        assert after.status_code == 200
        assert service.stop() == 0
