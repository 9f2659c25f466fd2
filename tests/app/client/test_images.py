from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from csrn_client import ClientError, InvalidImage
from csrn_client import Image as ImageKind
from csrn_client.images import each_image, upload, uploads
from tests.support.samples import SAMPLES

FILE = SAMPLES / "anger" / "00.jpg"
PHOTO = Image.open(FILE).convert("RGB")
PIXELS = np.asarray(PHOTO)


def decoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def largest_difference(content: bytes, pixels: npt.NDArray[np.uint8]) -> float:
    """Of an encoded image from the pixels, averaged over blocks of 4 x 4 pixels."""
    difference = np.abs(np.asarray(decoded(content), dtype=float) - pixels)
    height, width = pixels.shape[:2]
    return float(difference.reshape(height // 4, 4, width // 4, 4, -1).mean((1, 3)).max())


@pytest.mark.parametrize(
    "image",
    [
        str(FILE),
        FILE,
        FILE.read_bytes(),
        bytearray(FILE.read_bytes()),
        memoryview(FILE.read_bytes()),
        io.BytesIO(FILE.read_bytes()),
    ],
    ids=lambda image: type(image).__name__,
)
def test_a_file_is_sent_as_it_is(image: Any) -> None:
    assert upload(image).content == FILE.read_bytes()


def test_an_open_file_is_read_and_named_after_its_path() -> None:
    with FILE.open("rb") as file:
        sent = upload(file)
    assert (sent.name, sent.content) == ("00.jpg", FILE.read_bytes())


def test_images_are_named_after_their_files_or_numbered() -> None:
    images: list[ImageKind] = [b"one", FILE, str(FILE), Image.open(FILE), PHOTO, PIXELS, io.BytesIO(b"file")]
    names = [sent.name for sent in uploads(images)]
    assert names == ["0", "00.jpg", "00.jpg", "00.jpg", "4", "5", "6"]


@pytest.mark.parametrize(
    "image",
    [PHOTO, PHOTO.convert("YCbCr"), PIXELS, np.asfortranarray(PIXELS), np.flip(np.flip(PIXELS).copy())],
)
def test_pixels_keep_their_colours(image: Any) -> None:
    sent = upload(image).content
    assert decoded(sent).format == "JPEG"
    assert largest_difference(sent, PIXELS) < 5


def test_a_grey_array_is_sent_as_a_grey_image() -> None:
    grey = PIXELS[:, :, 1]
    sent = upload(grey).content
    assert decoded(sent).mode == "L"
    assert largest_difference(sent, grey) < 3


def test_a_bgr_frame_is_sent_in_its_colours_after_it_was_reversed() -> None:
    bgr = PIXELS[:, :, ::-1].copy()
    assert upload(bgr[..., ::-1]).content == upload(PIXELS).content


def test_the_same_pixels_are_always_sent_as_the_same_bytes() -> None:
    assert upload(PHOTO).content == upload(PIXELS).content == upload(PIXELS.copy()).content


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "I;16"])
def test_pixels_that_a_jpeg_cannot_hold_are_sent_without_loss(mode: str) -> None:
    grey_16 = Image.fromarray(PIXELS[:, :, 1].astype(np.uint16) * 257)
    image = grey_16 if mode == "I;16" else PHOTO.convert(mode)
    sent = decoded(upload(image).content)
    assert (sent.format, sent.mode) == ("PNG", mode)
    assert np.array_equal(np.asarray(sent), np.asarray(image))


def test_a_small_face_is_sent_without_loss() -> None:
    small = np.asarray(PHOTO.resize((48, 48)))
    sent = decoded(upload(small).content)
    assert (sent.format, np.array_equal(np.asarray(sent), small)) == ("PNG", True)


def test_a_pil_image_is_turned_upright(tmp_path: Path) -> None:
    turned, exif = PHOTO.crop((0, 0, 200, 100)).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    sent = decoded(upload(Image.open(tmp_path / "turned.png")).content)
    assert sent.size == (200, 100)
    assert 0x0112 not in sent.getexif()
    assert largest_difference(upload(Image.open(tmp_path / "turned.png")).content, PIXELS[:100, :200]) < 3


def test_one_image_is_accepted_wherever_several_are() -> None:
    def count(images: Any) -> int:
        return len(list(each_image(images)))

    assert [count(image) for image in (str(FILE), FILE, b"one", io.BytesIO(b"one"), PHOTO, PIXELS)] == [1] * 6
    assert count(PIXELS[:, :, 0]) == 1
    assert count(FILE.parent.glob("*.jpg")) == 8
    assert count(np.stack([PIXELS] * 3)) == 3
    assert count({FILE: 1}) == 1
    assert count(iter([])) == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS / 255, "uint8, with values from 0 to 255, not float64"),
        (PIXELS.astype(np.int8), "not int8"),
        (PIXELS[:, :, 0] > 9, "not bool"),
        (PIXELS.transpose(2, 0, 1), r"\(height, width, 3\) or \(height, width\), not \(3, 256, 256\)"),
        (PIXELS[:, :, :2], r"not \(256, 256, 2\)"),
        (PIXELS[0, 0], r"not \(3,\)"),
        (PIXELS[:0], r"not \(0, 256, 3\)"),
        (io.StringIO("text"), 'mode "rb"'),
        (PHOTO.convert("F"), "mode F .* convert it to RGB"),
        (None, "NoneType is no image"),
        (7, "int is no image"),
        ([None], "NoneType is no image"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(image: Any, message: str) -> None:
    with pytest.raises(InvalidImage, match=message) as raised:
        list(uploads(image))
    assert isinstance(raised.value, ClientError)
    assert isinstance(raised.value, ValueError)


def test_a_file_that_does_not_exist_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        upload("missing.jpg")
