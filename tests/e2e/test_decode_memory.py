"""The memory of a service that receives many large images at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from tests.support.api import image, sample, teach
from tests.support.peak_memory import peak_memory, reset_peak_memory
from tests.support.samples import encoded, sample_image
from tests.support.service import Service

THREADS, LARGE_IMAGES = 16, 8
BUDGET_BYTES = 2**30


def test_large_images_are_decoded_within_the_budget_and_small_ones_pass_them(tmp_path: Path) -> None:
    canvas = Image.new("RGB", (5000, 5000), (90, 120, 60))
    canvas.paste(sample_image("anger", 0).resize((3000, 3000)), (1000, 1000))
    large = encoded(canvas, "WEBP", method=0, quality=30)
    with (
        Service(tmp_path, CSRN_FACE_THREADS=str(THREADS)) as service,
        ThreadPoolExecutor(LARGE_IMAGES) as clients,
    ):
        path = teach(service.client, {"anger": 2, "happiness": 2})

        def answered_at_s(data: bytes) -> float:
            """The time when the service has found one face in the image."""
            response = service.client.post(f"{path}/classify", files=[image(data)])
            assert response.status_code == 200, response.text
            (result,) = response.json()["results"]
            assert len(result["faces"]) == 1
            return time.monotonic()

        # Each thread loads its FaceMesh.
        service.client.post(f"{path}/classify", files=[sample("anger", 0)] * THREADS)
        start_bytes = reset_peak_memory(service.pid)
        answers = [clients.submit(answered_at_s, large) for _ in range(LARGE_IMAGES)]
        time.sleep(0.5)
        small_s = answered_at_s(encoded(sample_image("anger", 1)))
        large_s = sorted(answer.result() for answer in answers)
        grown_bytes = peak_memory(service.pid) - start_bytes
        print(f"{LARGE_IMAGES} WebPs of 25 megapixels on {THREADS} threads: {grown_bytes / 2**20:.0f} MiB")
        assert small_s < large_s[LARGE_IMAGES // 2]
        assert 0.5 * BUDGET_BYTES < grown_bytes < BUDGET_BYTES
