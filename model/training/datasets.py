"""Find the labelled images of a data set in its published layout."""

from __future__ import annotations

import contextlib
import dataclasses
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from model.errors import DatasetInvalid

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One image of a data set: where it is within its source, what it shows, which split it is of."""

    source: str
    label: str
    split: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """An opened data set; `read` returns the encoded bytes of one of its images (thread-safe)."""

    images: list[LabelledImage]
    read: Callable[[LabelledImage], bytes]


@contextlib.contextmanager
def open_dataset(name: str, source: Path) -> Iterator[Dataset]:
    """Open a data set by name. Raises: DatasetInvalid where the source is not laid out as expected."""
    if name not in DATASETS:
        raise DatasetInvalid(f"unknown data set {name!r}; known: {', '.join(sorted(DATASETS))}")
    if not source.exists():
        raise DatasetInvalid(f"{source} does not exist")
    with DATASETS[name](source) as dataset:
        yield dataset


@contextlib.contextmanager
def _fer2013(source: Path) -> Iterator[Dataset]:
    """FER2013 in Kaggle's layout, folder or zip: {train,test}/<label>/<original split>_<number>.jpg."""
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*.jpg")]
        images = _fer2013_images(names, source)
        yield Dataset(images=images, read=lambda image: (source / image.source).read_bytes())
        return
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError):
        raise DatasetInvalid(f"{source} is neither a folder nor a zip file") from None
    with archive:
        images = _fer2013_images(archive.namelist(), source)
        yield Dataset(images=images, read=lambda image: archive.read(image.source))


def _fer2013_images(names: list[str], source: Path) -> list[LabelledImage]:
    images = []
    for name in sorted(names):
        parts = name.split("/")
        if len(parts) >= 3 and name.endswith(".jpg") and parts[-3] in ("train", "test"):
            images.append(LabelledImage(source=name, label=parts[-2], split=parts[-3]))
    if not images:
        raise DatasetInvalid(f"{source}: expected {{train,test}}/<label>/*.jpg, found {_first(names)}")
    return images


@contextlib.contextmanager
def _folder(source: Path) -> Iterator[Dataset]:
    """Any folder of ROOT/<label>/<image>; all of it is one split, 'all'."""
    if not source.is_dir():
        raise DatasetInvalid(f"{source} is not a folder")
    images = [
        LabelledImage(source=path.relative_to(source).as_posix(), label=folder.name, split="all")
        for folder in sorted(source.iterdir())
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not images:
        names = [path.name for path in source.iterdir()]
        raise DatasetInvalid(f"{source}: expected <label>/<image>, found {_first(names)}")
    yield Dataset(images=images, read=lambda image: (source / image.source).read_bytes())


def _first(names: list[str]) -> str:
    return ", ".join(sorted(names)[:3]) or "nothing"


DATASETS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Dataset]]] = {
    "fer2013": _fer2013,
    "folder": _folder,
}
