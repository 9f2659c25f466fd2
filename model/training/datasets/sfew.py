"""SFEW 2.0 (Dhall et al., ICCV workshops 2011): film stills in {Train,Val}/<Label>/."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from model.training.datasets.dataset import IMAGE_SUFFIXES, Dataset, LabelledImage, require_images

SPLITS = {"train": "train", "val": "val"}


@contextlib.contextmanager
def open_sfew(source: Path) -> Iterator[Dataset]:
    """Open {Train,Val}/<Label>/<image>, or with one folder between (Train_Aligned_Faces and the like).

    Labels are taken in lower case. Raises: DatasetInvalid.
    """
    images = [
        LabelledImage(source=path.relative_to(source).as_posix(), label=path.parent.name.lower(), split=split)
        for folder, split in split_folders(source)
        for path in [*folder.glob("*/*"), *folder.glob("*/*/*")]
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    images = require_images(images, source, expected="{Train,Val}/<Label>/<image>")
    yield Dataset(images=images, read=lambda image: (source / image.source).read_bytes())


def split_folders(source: Path) -> list[tuple[Path, str]]:
    """The folders of SFEW and AFEW whose names begin with a split's, with the split."""
    if not source.is_dir():
        return []
    return [
        (folder, split)
        for folder in sorted(source.iterdir())
        if folder.is_dir() and (split := SPLITS.get(folder.name.lower().partition("_")[0]))
    ]
