"""SFEW 2.0 (Dhall et al., ICCV workshops 2011): film stills in {Train,Val}/<Label>/."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from model.training.datasets.dataset import Dataset, LabelledImage, require_images
from model.vision.images import IMAGE_SUFFIXES

SPLITS = {"train": "train", "val": "val"}


@contextlib.contextmanager
def open_sfew(source: Path) -> Iterator[Dataset]:
    """Open {Train,Val}/<Label>/<image>, or with one folder between (Train_Aligned_Faces and the like).

    Where a still is there both whole and aligned, the two are one group. Labels are taken in lower
    case. Raises: DatasetInvalid.
    """
    images = [
        LabelledImage(
            source=path.relative_to(source).as_posix(),
            label=path.parent.name.lower(),
            split=split,
            group=f"{split}/{path.parent.name}/{path.stem}".lower(),
        )
        for path, split in split_files(source, IMAGE_SUFFIXES)
    ]
    images = require_images(images, source, expected="{Train,Val}/<Label>/<image>")
    yield Dataset(images=images, read=lambda image: (source / image.source).read_bytes())


def split_files(source: Path, suffixes: set[str]) -> Iterator[tuple[Path, str]]:
    """The files of SFEW and AFEW in <split>*/<Label>/ and <split>*/<split>*/<Label>/, with their split."""
    for folder, split in _split_folders(source):
        for labels in [folder, *(inner for inner, _ in _split_folders(folder))]:
            for path in sorted(labels.glob("*/*")):
                if path.suffix.lower() in suffixes:
                    yield path, split


def _split_folders(folder: Path) -> list[tuple[Path, str]]:
    """The folders in a folder whose names begin with a split's, with the split."""
    if not folder.is_dir():
        return []
    return [
        (inner, split)
        for inner in sorted(folder.iterdir())
        if inner.is_dir() and (split := SPLITS.get(inner.name.lower().partition("_")[0]))
    ]
