"""Make the table of FER+ votes that the project ships:

    python -m model.training.datasets.make_ferplus FERPLUS.csv FER2013.zip ferplus.npz

The CSV names the files of the zip (columns `votes.BY_FILE_COLUMNS`). Source and licence: ferplus.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from model.training.datasets import open_dataset
from model.training.datasets.dataset import HASH_BYTES, content_hash
from model.training.datasets.votes import Votes, read_votes


def make_ferplus(votes_csv: Path, archive: Path, out: Path) -> None:
    """Write the table from a CSV that names the files of a FER2013 zip. Raises: DatasetInvalid, OSError.

    Files with the same bytes share one entry, with the votes of the first of them.
    """
    table: dict[str, Votes] = {}
    with open_dataset("fer2013", archive) as dataset:
        by_source = read_votes(votes_csv, dataset.images)
        for image in dataset.images:
            if image.source in by_source:
                table.setdefault(content_hash(dataset.read(image)), by_source[image.source])
    ordered = sorted(table)
    np.savez_compressed(
        out,
        hashes=np.frombuffer(bytes.fromhex("".join(ordered)), dtype=np.uint8).reshape(-1, HASH_BYTES),
        votes=np.array([table[content] for content in ordered], dtype=np.uint8),
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit("usage: python -m model.training.datasets.make_ferplus FERPLUS.csv FER2013.zip OUT")
    make_ferplus(*map(Path, sys.argv[1:]))
