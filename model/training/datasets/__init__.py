"""The labelled images of the data sets that researchers use, in their published layouts.

One file a data set; each opens a source and lists its images without decoding them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from model.errors import DatasetInvalid
from model.training.datasets.afew import open_afew
from model.training.datasets.dataset import Dataset, LabelledImage
from model.training.datasets.fer2013 import open_fer2013
from model.training.datasets.folder import open_folder
from model.training.datasets.rafdb import open_rafdb
from model.training.datasets.sfew import open_sfew

__all__ = ["DATASETS", "Dataset", "LabelledImage", "open_dataset"]

DATASETS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Dataset]]] = {
    "fer2013": open_fer2013,
    "rafdb": open_rafdb,
    "sfew": open_sfew,
    "afew": open_afew,
    "folder": open_folder,
}


@contextlib.contextmanager
def open_dataset(name: str, source: Path) -> Iterator[Dataset]:
    """Open a data set by name. Raises: DatasetInvalid where the source is not laid out as expected."""
    if name not in DATASETS:
        raise DatasetInvalid(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    if not source.exists():
        raise DatasetInvalid(f"{source} does not exist")
    with DATASETS[name](source) as dataset:
        yield dataset
