from __future__ import annotations

import io
import resource
import struct

import numpy as np
import pytest
from PIL import Image

from model.errors import ImageUnreadable
from model.vision.image_files import still_image_file
from model.vision.images import decode_image
from tests.support.bombs import ACCEPTED, BOMBS, FILE_BYTES, segment
from tests.support.peak_memory import peak_memory, reset_peak_memory
from tests.support.samples import encoded

GRADIENT = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1)))
"""Dark on the left, light on the right, 64 wide and 48 high."""
COLOUR = GRADIENT.convert("RGB")
WIDTH_PX, HEIGHT_PX = 4000, 3000


@pytest.mark.parametrize(("image_format", "bytes_per_pixel"), [("PNG", 10), ("JPEG", 10), ("WEBP", 20)])
def test_a_large_image_is_held_about_once_while_it_is_decoded(
    image_format: str, bytes_per_pixel: int
) -> None:
    ramp = np.add.outer(np.arange(HEIGHT_PX), np.arange(WIDTH_PX)).astype(np.uint8)
    image = Image.merge("RGB", [Image.fromarray(band) for band in (ramp, ramp[::-1].copy(), 255 - ramp)])
    data = encoded(image, image_format, compress_level=1, progressive=True, method=0)
    decode_image(data)  # loads what a first image needs
    start_bytes = reset_peak_memory()
    assert decode_image(data).reduction == 2
    # Two bytes of the limit are for what other tests of the process have left.
    assert 3 < (peak_memory() - start_bytes) / (WIDTH_PX * HEIGHT_PX) < bytes_per_pixel


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
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(COLOUR, exif=exif)).pixels
    assert image.shape[:2] == shape
    assert image[light_edge].min() == 252


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
def test_unusable_bytes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageUnreadable, match=reason):
        decode_image(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_truncated_images_are_refused(image_format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, image_format)
    for share in (0.05, 0.5, 0.9):
        with pytest.raises(ImageUnreadable):
            decode_image(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("size", "reduced"),
    [((1920, 1080), (1080, 1920)), ((2700, 2600), (1300, 1350)), ((4001, 5203), (2602, 2001))],
)
def test_a_jpeg_with_far_more_pixels_than_needed_is_decoded_reduced(
    size: tuple[int, int], reduced: tuple[int, int]
) -> None:
    decoded = decode_image(encoded(COLOUR.resize(size), "JPEG"))
    assert decoded.pixels.shape[:2] == reduced
    assert decoded.reduction == pytest.approx(size[0] / reduced[1], rel=1e-3)


@pytest.mark.parametrize("image_format", ["WEBP", "PNG"])
def test_an_animation_is_refused_and_says_so(image_format: str) -> None:
    with pytest.raises(ImageUnreadable, match="an animation"):
        decode_image(encoded(COLOUR, image_format, save_all=True, append_images=[COLOUR.rotate(180)]))
    one_frame = encoded(COLOUR, image_format, save_all=True)
    np.testing.assert_allclose(decode_image(one_frame).pixels, np.asarray(COLOUR), atol=12)


def test_a_photo_is_decoded_without_the_pictures_or_the_video_that_follow_it() -> None:
    photo = encoded(COLOUR, "JPEG")
    several = encoded(COLOUR, "MPO", save_all=True, append_images=[COLOUR.rotate(180)])
    video = np.random.default_rng(0).bytes(2**20)
    for data in (several, photo + video):
        np.testing.assert_array_equal(decode_image(data).pixels, decode_image(photo).pixels)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_an_image_with_damaged_exif_is_decoded(image_format: str) -> None:
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"):
        assert decode_image(encoded(COLOUR, image_format, exif=exif)).pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_read_from_exif_in_every_format_and_byte_order(image_format: str) -> None:
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        entry = struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)
        exif = b"Exif\0\0" + mark + entry + bytes(4)
        image = decode_image(encoded(COLOUR, image_format, exif=exif)).pixels
        assert image.shape == (64, 48, 3)
        assert image[-1].mean() > 240


@pytest.mark.parametrize(
    "image", [encoded(GRADIENT.resize((4000, 15))), encoded(GRADIENT.resize((5000, 16)))]
)
def test_an_image_that_is_too_narrow_is_refused(image: bytes) -> None:
    # Padded to a square for the search of faces, such an image would take gigabytes.
    with pytest.raises(ImageUnreadable, match=r"too few|too short"):
        decode_image(image)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_a_panorama_is_reduced_until_its_longer_side_fits(image_format: str) -> None:
    decoded = decode_image(encoded(COLOUR.resize((9000, 600)), image_format))
    assert decoded.pixels.shape[:2] == (150, 2250)
    assert decoded.reduction == pytest.approx(4)
    assert decoded.pixels[:, 0].mean() < 10 < 240 < decoded.pixels[:, -1].mean()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_large_png_of_any_mode_is_reduced_by_averaging(mode: str) -> None:
    large = GRADIENT.resize((2700, 2600))
    stored = Image.fromarray(np.asarray(large, np.uint16) * 257) if mode == "I;16" else large.convert(mode)
    decoded = decode_image(encoded(stored, "PNG", compress_level=1))
    assert (decoded.pixels.shape, decoded.reduction) == ((1300, 1350, 3), 2)
    expected = np.asarray(
        stored.convert("RGB").reduce(2) if mode != "I;16" else large.convert("RGB").reduce(2)
    )
    np.testing.assert_allclose(decoded.pixels.astype(int), expected, atol=2)


def test_pixels_are_counted_as_the_decoder_holds_them() -> None:
    photo, limit = COLOUR.resize((5200, 2600)), 4_000_000
    # At half size it has 3.4 million pixels; a progressive JPEG is held in full, like a PNG.
    assert decode_image(encoded(photo, "JPEG"), max_pixels=limit).reduction == 2
    for data in (encoded(photo, "JPEG", progressive=True), encoded(photo, "PNG", compress_level=1)):
        with pytest.raises(ImageUnreadable, match="5200 x 2600 pixels are more"):
            decode_image(data, max_pixels=limit)
    with pytest.raises(ImageUnreadable, match="more than the 3000000 allowed"):
        decode_image(encoded(photo, "JPEG"), max_pixels=3_000_000)
    # At an eighth it has 1.7 million pixels, but the decoder reads all 107 million.
    large = encoded(photo.resize((10_400, 10_300)), "JPEG", quality=5)
    with pytest.raises(ImageUnreadable, match="more than the 16000000 allowed"):
        decode_image(large, max_pixels=2_000_000)


def test_the_metadata_of_a_file_does_not_change_its_pixels() -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    icc, exif = bytes(99_000), Image.Exif().tobytes()
    for image_format in ("PNG", "JPEG"):
        plain = encoded(noise, image_format)
        noted = encoded(noise, image_format, icc_profile=icc, exif=exif)
        np.testing.assert_array_equal(decode_image(noted).pixels, np.asarray(Image.open(io.BytesIO(plain))))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_memory_and_is_refused_unless_it_is_a_valid_image(name: str) -> None:
    data = BOMBS[name]()
    assert len(data) <= FILE_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name in ACCEPTED:
        assert min(decode_image(data).pixels.shape[:2]) >= 16
    else:
        with pytest.raises(ImageUnreadable):
            decode_image(data)
    # In KiB. Decoded in full, each of them would take over 1 GiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_scans_hidden_behind_a_segment_without_a_length_are_refused() -> None:
    data = encoded(Image.new("L", (64, 64)), "JPEG")
    start = data.index(b"\xff\xda")
    hidden = b"\xff\xdc\x00\x00" + b"\xff\xdc\xff\xff" + data[start:-2] * 200
    with pytest.raises(ImageUnreadable):
        decode_image(data[:start] + hidden + data[start:])


def test_bytes_that_fill_up_the_space_between_segments_are_ignored() -> None:
    photo, padding = encoded(COLOUR, "JPEG"), b"\xff" * 4096
    start = photo.index(b"\xff\xdb")
    padded = photo[:2] + padding + photo[2:start] + padding + photo[start:]
    np.testing.assert_array_equal(decode_image(padded).pixels, decode_image(photo).pixels)


def test_a_size_in_a_segment_that_decoders_do_not_know_is_ignored() -> None:
    photo = encoded(COLOUR, "JPEG")
    for marker in (0xC8, 0xF0, 0xDC, 0x02):
        hidden = segment(marker, segment(0xC0, struct.pack(">BHHB", 8, 5000, 5000, 1)))
        assert decode_image(photo[:2] + hidden + photo[2:]).pixels.shape == (48, 64, 3)


def test_a_progressive_jpeg_with_one_scan_is_decoded_whole() -> None:
    photo = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    first, second = photo.index(b"\xff\xda"), photo.index(b"\xff\xda", photo.index(b"\xff\xda") + 2)
    end = photo.index(b"\xff\xc4", first) if b"\xff\xc4" in photo[first:second] else second
    frame = photo.index(b"\xff\xc2")
    large = photo[: frame + 5] + (8000).to_bytes(2, "big") * 2 + photo[frame + 9 : end] + b"\xff\xd9"
    assert still_image_file(large).decoded_whole
    with pytest.raises(ImageUnreadable, match="pixels are more"):
        decode_image(large)
