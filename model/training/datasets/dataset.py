"""What every data set comes down to: labelled images and a way to read them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from model.errors import DatasetInvalid

HASH_BYTES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One image of a data set."""

    source: str
    """Where it is within the data set; unique"""
    label: str
    split: str
    group: str = ""
    """Images of one group, such as the frames of a video, never meet in an episode; "" for none"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """An opened data set."""

    images: list[LabelledImage]
    read: Callable[[LabelledImage], bytes]
    """Encoded bytes of one of its images; thread-safe. Raises: ImageUnreadable, OSError."""
    load_votes: Callable[[], Mapping[str, tuple[int, ...]]] = dict
    """The votes that the project ships for its images, by the hash of their bytes"""


def require_images(images: list[LabelledImage], source: Path, *, expected: str) -> list[LabelledImage]:
    """The images, sorted by source. Raises: DatasetInvalid, saying what is there, where there are none."""
    if not images:
        raise DatasetInvalid(f"{source}: expected {expected}; found {shown_names(_tree(source))}")
    return sorted(images, key=lambda image: image.source)


def wrong_layout(source: Path, *, expected: str, found: Iterable[str]) -> DatasetInvalid:
    """The error for a source that has `found` where `expected` should be."""
    return DatasetInvalid(f"{source}: expected {expected}; found {shown_names(found)}")


def _tree(source: Path) -> list[str]:
    if not source.is_dir():
        return [f"a file of {source.stat().st_size} bytes"]
    return [path.relative_to(source).as_posix() + "/" * path.is_dir() for path in source.iterdir()]


def shown_names(names: Iterable[str]) -> str:
    """The first three names of several, for an error message."""
    first = sorted(names)
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "") or "nothing"


def content_hash(data: bytes) -> str:
    """Hash of the bytes of an image, in hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()
