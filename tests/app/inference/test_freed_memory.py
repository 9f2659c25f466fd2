from __future__ import annotations

import subprocess
import sys

import pytest

READ_PHOTOS = """
import resource, sys, threading
from PIL import Image
from app.inference.freed_memory import keep_freed_memory
from model.vision.images import decode_image
from tests.support.samples import encoded

if sys.argv[1] == "kept":
    keep_freed_memory()
photo = encoded(Image.new("RGB", (1920, 1080)), "JPEG")

def read() -> None:
    decode_image(photo)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(10):
        decode_image(photo)
    print((resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before) // 10)

reader = threading.Thread(target=read)
reader.start()
reader.join()
"""


def page_faults(how: str) -> int:
    """Pages that the kernel hands out for a photo of two megapixels, on a thread that has read one before."""
    ran = subprocess.run([sys.executable, "-c", READ_PHOTOS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_photos_are_read_into_memory_that_earlier_photos_have_freed() -> None:
    if (returned := page_faults("returned")) < 1000:
        pytest.skip(f"only {returned} page faults without the function: the C library is not glibc")
    assert page_faults("kept") < returned / 10
