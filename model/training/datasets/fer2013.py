"""FER2013 (Goodfellow et al., ICONIP 2013), as Kaggle gives it: a folder or zip of images, or one CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from model.errors import ImageUnreadable
from model.training.datasets.dataset import Dataset, LabelledImage, require_images, wrong_layout
from model.training.datasets.votes import shipped_votes

SPLITS = ("train", "test")
CSV_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CSV_SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}
SIDE_PX = 48


@contextlib.contextmanager
def open_fer2013(source: Path) -> Iterator[Dataset]:
    """Open {train,test}/<label>/*.jpg in a folder or zip, or fer2013.csv. Raises: DatasetInvalid."""
    if source.is_dir() and not (source / "fer2013.csv").is_file():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*.jpg")]
        images = require_images(_named_images(names), source, expected="{train,test}/<label>/*.jpg")
        yield Dataset(
            images=images,
            read=lambda image: (source / image.source).read_bytes(),
            load_votes=shipped_votes,
        )
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            images = _named_images(archive.namelist())
            if not images:
                raise wrong_layout(source, expected="{train,test}/<label>/*.jpg", found=archive.namelist())
            images.sort(key=lambda image: image.source)
            yield Dataset(
                images=images,
                read=lambda image: _read_member(archive, image.source),
                load_votes=shipped_votes,
            )
    else:
        with _open_csv(source / "fer2013.csv" if source.is_dir() else source) as dataset:
            yield dataset


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError):
        raise ImageUnreadable(f"{name} is damaged in the archive, or locked by a password") from None


def _named_images(names: list[str]) -> list[LabelledImage]:
    images = []
    for name in names:
        path = PurePosixPath(name)
        if path.suffix == ".jpg" and len(path.parts) >= 3 and path.parts[-3] in SPLITS:
            images.append(LabelledImage(source=name, label=path.parts[-2], split=path.parts[-3]))
    return images


@contextlib.contextmanager
def _open_csv(source: Path) -> Iterator[Dataset]:
    """Columns emotion (0 to 6), pixels (48 x 48 grey values) and Usage; one image a row."""
    expected = "a folder or zip of {train,test}/<label>/*.jpg, or columns emotion, pixels, Usage"
    images, offsets = [], {}
    with source.open("rb") as file:
        header = _fields(file.readline())
        names = [name.strip() for name in header]
        if sorted(names) != ["Usage", "emotion", "pixels"]:
            raise wrong_layout(source, expected=expected, found=[repr(name[:40]) for name in names])
        columns = {name: names.index(name) for name in names}
        offset = file.tell()
        for row, line in enumerate(iter(file.readline, b"")):
            fields = _fields(line)
            try:
                label = CSV_LABELS[_number(fields[columns["emotion"]])]
                usage = fields[columns["Usage"]].strip()
                image = LabelledImage(source=f"{usage}_{row}", label=label, split=CSV_SPLITS[usage])
            except (ValueError, IndexError, KeyError):
                raise wrong_layout(
                    source,
                    expected=f"in row {row + 1} emotion 0 to 6 and Usage {', '.join(CSV_SPLITS)}",
                    found=[field[:20] for field in fields],
                ) from None
            images.append(image)
            offsets[image.source] = offset
            offset = file.tell()
        if not images:
            raise wrong_layout(source, expected=expected + " and rows", found=["the header alone"])
        lock = threading.Lock()

        def read(image: LabelledImage) -> bytes:
            with lock:
                file.seek(offsets[image.source])
                line = file.readline()
            try:
                pixels = np.array(_fields(line)[columns["pixels"]].split(), dtype=np.uint8)
                grey = Image.fromarray(pixels.reshape(SIDE_PX, SIDE_PX))
            except (ValueError, OverflowError):
                raise ImageUnreadable(f"{image.source} has not {SIDE_PX} x {SIDE_PX} grey values") from None
            encoded = io.BytesIO()
            grey.save(encoded, "PNG", compress_level=1)
            return encoded.getvalue()

        yield Dataset(images=images, read=read)


def _number(text: str) -> int:
    """Raises: ValueError; unlike for an index, -1 is none."""
    if not text.strip().isdecimal():
        raise ValueError(text)
    return int(text)


def _fields(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8", errors="replace")]), [])
    except csv.Error:
        return []
