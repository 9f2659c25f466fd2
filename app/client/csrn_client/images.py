"""The kinds of images that the client takes, and the file that it sends for each."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeGuard, cast

from csrn_client.errors import InvalidImage, MissingPackage

JPEG_OPTIONS = {"quality": 95, "subsampling": 0}
"""A PNG of a camera's frame takes 20 times as long to encode, and a PNG of a photo can be larger than the
service allows. At this quality, scores of the sample faces differ by at most 0.005 from those of a PNG."""
SMALL_PX = 128 * 128
"""Images with so few pixels are sent as PNG, because a JPEG would change the scores of a tiny face more"""


class BinaryFile(Protocol):
    """A file that was opened with mode "rb", or an io.BytesIO."""

    def read(self) -> bytes: ...


class Pixels(Protocol):
    """An image in memory: a PIL image or a numpy array."""

    @property
    def __array_interface__(self) -> Mapping[str, Any]: ...


File = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile
"""The path of a file, its content, or the open file"""
Image = File | Pixels
"""What the client takes as an image:

- `str` and `Path`: the path of a JPEG, PNG or WebP file;
- `bytes`: the content of such a file;
- a binary file object, which is read to its end;
- a PIL image, which is turned upright as its EXIF data says;
- a numpy array of uint8, (height, width, 3) RGB or (height, width) grey. It needs Pillow,
  which the extra `csrn-client[images]` installs. A frame of OpenCV is BGR: pass `frame[..., ::-1]`.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upload:
    """An image as it is sent."""

    name: str
    """The name of its file, or its index among the images of the call"""
    content: bytes


def each_image(images: Image | Iterable[Image]) -> Iterator[Image]:
    """The images one by one, or the only one. An array with four dimensions holds several images.

    Raises: InvalidImage.
    """
    if _is_one_image(images):
        yield images
    elif isinstance(images, Iterable):
        yield from cast(Iterable[Image], images)
    else:
        raise _not_an_image(images)


def _is_one_image(images: Image | Iterable[Image]) -> TypeGuard[Image]:
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(images, "read"):
        return True
    shape = None if _is_pil_image(images) else _shape(images)
    return _is_pil_image(images) or (shape is not None and len(shape) != 4)


def uploads(images: Image | Iterable[Image]) -> Iterator[Upload]:
    """What is sent for each image; read and encoded when it is its turn. Raises: as `upload`."""
    return (upload(image, index) for index, image in enumerate(each_image(images)))


def upload(image: Image, index: int = 0) -> Upload:
    """Read or encode an image. Raises: InvalidImage; MissingPackage; OSError."""
    name: object = None
    if isinstance(image, str | os.PathLike):
        name, content = image, Path(image).read_bytes()
    elif isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
    elif hasattr(image, "read"):
        name, content = getattr(image, "name", None), image.read()
        if not isinstance(content, bytes):
            raise InvalidImage('an image file is binary: open it with the mode "rb"')
    elif _is_pil_image(image):
        name, content = getattr(image, "filename", None), _encoded_image(image)
    elif _shape(image) is not None:
        content = _encoded_array(image)
    else:
        raise _not_an_image(image)
    named = isinstance(name, str | os.PathLike) and Path(name).name
    return Upload(name=path_text(Path(named)) if named else str(index), content=content)


def path_text(path: Path) -> str:
    """A path as text that can be sent and printed: bytes that are not UTF-8 are shown as \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _is_pil_image(image: object) -> bool:
    # Pillow and numpy are optional: an object cannot be theirs before they are imported.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _shape(array: object) -> tuple[int, ...] | None:
    """The shape of an array, or None if the object is no array."""
    interface = getattr(array, "__array_interface__", None)
    return None if interface is None else interface["shape"]


def _encoded_array(array: Any) -> bytes:
    """An array as the content of a JPEG file. Raises: InvalidImage; MissingPackage."""
    shape = _shape(array) or ()
    if array.__array_interface__["typestr"] != "|u1":
        kind = getattr(array, "dtype", array.__array_interface__["typestr"])
        raise InvalidImage(f"an array has the type uint8, with values from 0 to 255, not {kind}")
    if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or 0 in shape:
        raise InvalidImage(f"an array has the shape (height, width, 3) or (height, width), not {shape}")
    try:
        from PIL.Image import fromarray
    except ImportError:
        raise MissingPackage(
            "an array needs the package pillow to be encoded: pip install pillow, or csrn-client[images]"
        ) from None
    return _encoded_image(fromarray(array))


def _encoded_image(image: Any) -> bytes:
    """A PIL image as a JPEG file, or as a PNG file if a JPEG cannot hold it or it is small.

    Raises: InvalidImage.
    """
    from PIL.ImageOps import exif_transpose

    upright, file = exif_transpose(image), io.BytesIO()
    if upright.mode in ("CMYK", "YCbCr", "HSV", "LAB"):
        upright = upright.convert("RGB")
    small = upright.width * upright.height <= SMALL_PX
    try:
        if upright.mode in ("RGB", "L") and not small:
            upright.save(file, "JPEG", **JPEG_OPTIONS)
        else:
            upright.save(file, "PNG")
    except (OSError, ValueError) as error:
        raise InvalidImage(
            f"the PIL image of mode {image.mode} cannot be encoded ({error}): convert it to RGB"
        ) from None
    return file.getvalue()


def _not_an_image(thing: object) -> InvalidImage:
    return InvalidImage(
        f"{type(thing).__name__} is no image: pass a path, bytes, a binary file, a PIL image or a numpy array"
    )
