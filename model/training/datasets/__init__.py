"""Loaders for the data sets that researchers use, in their published layouts.

Each loader opens a source and lists its labelled images without decoding them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from model.errors import DatasetInvalid
from model.training.datasets.dataset import Dataset, LabelledImage, open_folder
from model.training.datasets.emotiw import open_afew, open_sfew
from model.training.datasets.fer2013 import open_fer2013
from model.training.datasets.rafdb import open_rafdb

__all__ = ["DATASETS", "Dataset", "LabelledImage", "open_dataset"]

DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "fer2013": open_fer2013,
    "rafdb": open_rafdb,
    "sfew": open_sfew,
    "afew": open_afew,
    "folder": open_folder,
}


@contextlib.contextmanager
def open_dataset(name: str, source: Path) -> Iterator[Dataset]:
    """Open a data set by name. Raises: DatasetInvalid if the source does not have the expected layout."""
    if not source.exists():
        raise DatasetInvalid(f"{source} does not exist")
    dataset = DATASETS[name](source)
    try:
        yield dataset
    finally:
        dataset.close()
