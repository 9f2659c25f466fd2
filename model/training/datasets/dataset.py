"""What all data sets have in common: labelled images and a way to read them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from model.errors import DatasetInvalid
from model.vision.images import IMAGE_SUFFIXES

HASH_BYTES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One image of a data set."""

    source: str
    """Its unique path or name within the data set"""
    label: str
    split: str
    group: str = ""
    """An episode takes one image of a group at most, such as one frame of a video; "" for no group"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """An opened data set."""

    images: list[LabelledImage]
    read: Callable[[LabelledImage], bytes]
    """Reads the encoded bytes of an image; thread-safe. Raises: ImageUnreadable, OSError."""
    load_votes: Callable[[], Mapping[str, tuple[int, ...]]] = dict
    """Loads the votes that the project ships for the images, by the hash of an image's bytes"""
    close: Callable[[], None] = lambda: None


def open_folder(source: Path) -> Dataset:
    """Open <label>/**/<image>, at any depth; all images are in the split `all`. Raises: DatasetInvalid."""
    images = [
        LabelledImage(source=name.as_posix(), label=name.parts[0], split="all")
        for path in source.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and len((name := path.relative_to(source)).parts) >= 2
    ]
    return file_dataset(source, images, expected="<label>/<image>")


def file_dataset(root: Path, images: list[LabelledImage], *, expected: str) -> Dataset:
    """A data set of files below a folder. Raises: DatasetInvalid if there are no images."""
    return Dataset(
        images=require_images(images, root, expected=expected),
        read=lambda image: (root / image.source).read_bytes(),
    )


def require_images(images: list[LabelledImage], source: Path, *, expected: str) -> list[LabelledImage]:
    """Sort the images by source. Raises: DatasetInvalid, which says what was found, if there are none."""
    if not images:
        raise wrong_layout(source, expected=expected, found=_tree(source))
    return sorted(images, key=lambda image: image.source)


def wrong_layout(source: Path, *, expected: str, found: Iterable[str]) -> DatasetInvalid:
    """The error for a source that contains `found` instead of `expected`."""
    return DatasetInvalid(f"{source}: expected {expected}; found {shown_names(found)}")


def _tree(source: Path) -> list[str]:
    if not source.is_dir():
        return [f"a file of {source.stat().st_size} bytes"]
    return [path.relative_to(source).as_posix() + "/" * path.is_dir() for path in source.iterdir()]


def shown_names(names: Iterable[str]) -> str:
    """The first three names, for an error message."""
    first = sorted(names)
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "") or "nothing"


def content_hash(data: bytes) -> str:
    """Hash of the bytes of an image, in hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()
