from __future__ import annotations

import contextlib

import numpy as np
import pytest
from PIL import Image

from model.errors import ImageUnreadable
from model.images import decode_image
from tests.conftest import encoded, sample_bytes

GRADIENT = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1)))
"""Dark on the left, light on the right, 64 wide and 48 high."""


def with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = GRADIENT.convert("RGB")
    return encoded(stored, "PNG", exif=exif)


@pytest.mark.parametrize(
    ("orientation", "shape", "light_edge"),
    [
        (1, (48, 64), np.s_[:, -1]),
        (3, (48, 64), np.s_[:, 0]),
        (6, (64, 48), np.s_[-1, :]),
        (8, (64, 48), np.s_[0, :]),
    ],
)
def test_exif_orientation_is_applied(
    orientation: int, shape: tuple[int, int], light_edge: tuple[slice, int]
) -> None:
    image = decode_image(with_orientation(orientation)).pixels
    assert image.shape[:2] == shape
    assert image[light_edge].min() == 252


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_png_modes_become_rgb(mode: str) -> None:
    image = decode_image(encoded(GRADIENT.convert(mode))).pixels
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8
    assert image[:, :16].mean() < 64 < 192 < image[:, -16:].mean()


def test_sixteen_bit_grey_keeps_its_range() -> None:
    values = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    image = decode_image(encoded(Image.fromarray(values))).pixels
    expected = np.repeat((values / 257.0).round()[..., None], 3, axis=2)
    np.testing.assert_array_equal(image, expected)


def test_cmyk_jpeg_becomes_rgb() -> None:
    red = Image.new("RGB", (32, 32), (200, 30, 30)).convert("CMYK")
    pixel = decode_image(encoded(red, "JPEG", quality=95)).pixels.mean(axis=(0, 1))
    np.testing.assert_allclose(pixel, (200, 30, 30), atol=12)


def test_transparent_pixels_become_white() -> None:
    hidden = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    assert decode_image(encoded(hidden)).pixels.min() == 255


def test_webp_is_read() -> None:
    assert decode_image(encoded(GRADIENT.convert("RGB"), "WEBP")).pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just some text, renamed to .jpg", "not a JPEG"),
        (encoded(GRADIENT, "GIF"), "not a JPEG"),
        (encoded(GRADIENT, "TIFF"), "not a JPEG"),
        (encoded(Image.new("RGB", (15, 40))), "too few"),
    ],
)
def test_what_is_no_usable_image_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageUnreadable, match=reason):
        decode_image(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_truncated_images_are_refused(image_format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, image_format)
    for share in (0.05, 0.5, 0.9):
        with pytest.raises(ImageUnreadable):
            decode_image(data[: int(len(data) * share)])


def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    original = np.frombuffer(sample_bytes("anger", 0), dtype=np.uint8)
    for _ in range(150):
        damaged = original.copy()
        damaged[rng.integers(0, len(damaged), 20)] = rng.integers(0, 255, 20)
        # Some damage goes unnoticed; what is noticed must be an ImageUnreadable.
        with contextlib.suppress(ImageUnreadable):
            assert decode_image(damaged.tobytes()).pixels.shape == (256, 256, 3)


def test_more_pixels_than_allowed_are_refused_before_decoding() -> None:
    with pytest.raises(ImageUnreadable, match="64 x 48 pixels"):
        decode_image(encoded(GRADIENT), max_pixels=3000)


@pytest.mark.parametrize(
    ("size", "reduced"),
    [((1920, 1080), (1080, 1920)), ((2700, 2600), (1300, 1350)), ((4001, 5203), (2602, 2001))],
)
def test_a_jpeg_with_far_more_pixels_than_needed_is_decoded_reduced(
    size: tuple[int, int], reduced: tuple[int, int]
) -> None:
    decoded = decode_image(encoded(GRADIENT.convert("RGB").resize(size), "JPEG"))
    assert decoded.pixels.shape[:2] == reduced
    assert decoded.reduction == pytest.approx(size[0] / reduced[1], rel=1e-3)
