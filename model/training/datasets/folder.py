"""Any folder of ROOT/<label>/<image>, at any depth below the label; all of it is one split, 'all'."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from model.training.datasets.dataset import Dataset, LabelledImage, require_images
from model.vision.images import IMAGE_SUFFIXES


@contextlib.contextmanager
def open_folder(source: Path) -> Iterator[Dataset]:
    """Open ROOT/<label>/**/<image>. Raises: DatasetInvalid."""
    images = [
        LabelledImage(source=name.as_posix(), label=name.parts[0], split="all")
        for path in source.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and len((name := path.relative_to(source)).parts) >= 2
    ]
    images = require_images(images, source, expected="<label>/<image>")
    yield Dataset(images=images, read=lambda image: (source / image.source).read_bytes())
