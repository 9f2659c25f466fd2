"""The most expensive uploads at once: memory stays bounded, and the service answers meanwhile."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from model.vision.images import MAX_PIXELS
from tests.support.api import image, teach
from tests.support.samples import EXPRESSIONS, encoded, sample_bytes
from tests.support.service import Service

pytestmark = pytest.mark.soak
UPLOADS = 50
MAX_RSS_MB = 2500
MAX_IMAGE_BYTES = 10 * 2**20


def test_memory_is_bounded_under_the_most_expensive_uploads(tmp_path: Path) -> None:
    largest = Image.new("RGB", (5000, MAX_PIXELS // 5000))
    most_pixels = [image(encoded(largest, kind, lossless=True)) for kind in ("PNG", "WEBP", "WEBP")]
    most_bytes = [image(bytes(MAX_IMAGE_BYTES))] * 6
    service = Service(tmp_path)
    process, peak_mb = psutil.Process(service.pid), 0.0
    classify = service.url + teach(service.client, dict.fromkeys(EXPRESSIONS, 1)) + "/classify"

    def upload(number: int) -> int:
        return httpx.post(classify, files=most_pixels if number % 2 else most_bytes, timeout=300).status_code

    try:
        with ThreadPoolExecutor(UPLOADS) as pool:
            uploads = [pool.submit(upload, number) for number in range(UPLOADS)]
            while not all(upload.done() for upload in uploads):
                peak_mb = max(peak_mb, process.memory_info().rss / 2**20)
                assert service.client.get("/livez").status_code == 200
                time.sleep(0.05)
        statuses = {upload.result() for upload in uploads}
        print(f"\npeak {peak_mb:.0f} MB; responses {sorted(statuses)}")
        assert 200 in statuses
        assert statuses <= {200, 400, 429}
        assert peak_mb < MAX_RSS_MB
        assert service.client.post(classify, files=[image(sample_bytes("anger", 4))]).status_code == 200
    finally:
        assert service.stop() == 0
