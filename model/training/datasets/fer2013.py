"""FER2013 (Goodfellow et al., ICONIP 2013), as Kaggle offers it: a folder or zip of images, or one CSV."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import threading
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from model.errors import ImageUnreadable
from model.training.datasets.dataset import Dataset, LabelledImage, file_dataset, wrong_layout
from model.training.datasets.votes import shipped_votes

SPLITS = ("train", "test")
EXPECTED = "{train,test}/<label>/*.jpg"
CSV_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CSV_SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}
SIDE_PX = 48


def open_fer2013(source: Path) -> Dataset:
    """Open {train,test}/<label>/*.jpg in a folder or zip, or fer2013.csv. Raises: DatasetInvalid."""
    if source.is_dir() and not (source / "fer2013.csv").is_file():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*.jpg")]
        dataset = file_dataset(source, _named_images(names), expected=EXPECTED)
        return dataclasses.replace(dataset, load_votes=shipped_votes)
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(source):
            dataset = _open_zip(source, stack.enter_context(zipfile.ZipFile(source)))
        else:
            source = source / "fer2013.csv" if source.is_dir() else source
            dataset = _open_csv(source, stack.enter_context(source.open("rb")))
        return dataclasses.replace(dataset, close=stack.pop_all().close)


def _named_images(names: list[str]) -> list[LabelledImage]:
    paths = [PurePosixPath(name) for name in names]
    return [
        LabelledImage(source=name, label=path.parts[-2], split=path.parts[-3])
        for name, path in zip(names, paths, strict=True)
        if path.suffix == ".jpg" and len(path.parts) >= 3 and path.parts[-3] in SPLITS
    ]


def _open_zip(source: Path, archive: zipfile.ZipFile) -> Dataset:
    images = sorted(_named_images(archive.namelist()), key=lambda image: image.source)
    if not images:
        raise wrong_layout(source, expected=EXPECTED, found=archive.namelist())

    def read(image: LabelledImage) -> bytes:
        try:
            return archive.read(image.source)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError):
            raise ImageUnreadable(
                f"{image.source} is damaged in the archive, or protected by a password"
            ) from None

    return Dataset(images=images, read=read, load_votes=shipped_votes)


def _open_csv(source: Path, file: io.BufferedReader) -> Dataset:
    """Open a CSV of columns emotion (0 to 6), pixels (48 x 48 grey values) and Usage; one image a row."""
    expected = f"a folder or zip of {EXPECTED}, or columns emotion, pixels, Usage"
    images, offsets = [], {}
    names = [name.strip() for name in _fields(file.readline())]
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
            expected = f"in row {row + 1} emotion 0 to 6 and Usage {', '.join(CSV_SPLITS)}"
            raise wrong_layout(source, expected=expected, found=[field[:20] for field in fields]) from None
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
            raise ImageUnreadable(f"{image.source} does not have {SIDE_PX} x {SIDE_PX} grey values") from None
        encoded = io.BytesIO()
        grey.save(encoded, "PNG", compress_level=1)
        return encoded.getvalue()

    return Dataset(images=images, read=read)


def _number(text: str) -> int:
    """Parse a number that is not negative. Raises: ValueError."""
    if not text.strip().isdecimal():
        raise ValueError(text)
    return int(text)


def _fields(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8", errors="replace")]), [])
    except csv.Error:
        return []
