"""A prepared folder: what `csrn prepare` writes and everything else reads.

It holds one row per image of the data set, whether or not its face was found:

    manifest.csv     source, label, split, group, content, detection; named .unfinished until it is whole
    patches.npy      (images, 3 parts, 64, 64, 3) uint8
    landmarks.npy    (images, 468, 2) float32, pixels of the source image
"""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid

MANIFEST, PATCHES, LANDMARKS = "manifest.csv", "patches.npy", "landmarks.npy"
UNFINISHED = "manifest.csv.unfinished"
ANY_NAME = "surrogateescape"
"""How manifests are encoded and decoded: a file name may be any bytes."""
COLUMNS = ("source", "label", "split", "group", "content", "detection")
DETECTIONS = FOUND, FOUND_AFTER_PADDING, NOT_FOUND, UNREADABLE, DUPLICATE = (
    "found",
    "found_after_padding",
    "not_found",
    "unreadable",
    "duplicate",
)
"""Detection paths. A duplicate is an image whose very bytes are in a split that is measured on."""

Row = dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedImages:
    """Images whose face was found, in manifest order. Patches stay on disk until they are asked for."""

    labels: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    """Such as the video that an image is a frame of; "" for an image by itself"""
    contents: npt.NDArray[np.str_]
    """Hash of the bytes of each image"""
    rows: npt.NDArray[np.int64]
    """Where each image is in the two arrays below"""
    all_patches: npt.NDArray[np.uint8]
    all_landmarks: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def patches(self, chosen: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.uint8]:
        """(chosen, 3 parts, 64, 64, 3) uint8 of the chosen images."""
        return np.asarray(self.all_patches[self.rows[chosen]])

    def landmarks(self) -> npt.NDArray[np.float32]:
        """(images, 468, 2) float32 pixels of each image."""
        return np.asarray(self.all_landmarks[self.rows])

    @property
    def kin(self) -> npt.NDArray[np.str_]:
        """(images,) alike where images may not meet in an episode: of one video, of the same bytes."""
        return np.where(self.groups == "", self.contents, self.groups)

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> PreparedImages:
        """The images that a mask or indices (images,) choose."""
        return dataclasses.replace(
            self,
            labels=self.labels[chosen],
            sources=self.sources[chosen],
            groups=self.groups[chosen],
            contents=self.contents[chosen],
            rows=self.rows[chosen],
        )


def load_prepared(folder: Path, *, split: str | None = None) -> PreparedImages:
    """Load the found faces of a prepared folder, of one split or of all.

    Raises: DatasetInvalid if the folder is not a complete output of `prepare`, or has no such split.
    """
    rows = _finished_rows(folder)
    try:
        patches = np.load(folder / PATCHES, mmap_mode="r")
        landmarks = np.load(folder / LANDMARKS, mmap_mode="r")
        kept = [
            index
            for index, row in enumerate(rows)
            if row["detection"] in (FOUND, FOUND_AFTER_PADDING) and split in (None, row["split"])
        ]
        columns = {
            name: np.array([rows[index][name] for index in kept], dtype=np.str_)
            for name in ("label", "source", "group", "content")
        }
    except (OSError, ValueError, KeyError, EOFError):
        raise DatasetInvalid(f"{folder} is not an output of `csrn prepare`") from None
    if not len(rows) == len(patches) == len(landmarks):
        raise DatasetInvalid(f"{folder} is damaged: its files are of unequal length")
    splits = sorted({row["split"] for row in rows})
    if split is not None and split not in splits:
        raise DatasetInvalid(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
    return PreparedImages(
        labels=columns["label"],
        sources=columns["source"],
        groups=columns["group"],
        contents=columns["content"],
        rows=np.array(kept, dtype=np.int64),
        all_patches=patches,
        all_landmarks=landmarks,
    )


def training_split(folder: Path) -> str | None:
    """The split to train on where none is named: `train`; None, all images, where there is no such split.

    Raises: DatasetInvalid if the folder is not an output of `prepare`.
    """
    return "train" if any(row.get("split") == "train" for row in _finished_rows(folder)) else None


def _finished_rows(folder: Path) -> list[Row]:
    if (folder / UNFINISHED).exists():
        raise DatasetInvalid(f"{folder} is not prepared to its end: run `csrn prepare` again")
    try:
        return read_manifest(folder / MANIFEST)
    except (OSError, ValueError):
        raise DatasetInvalid(f"{folder} is not an output of `csrn prepare`") from None


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest; a last line that was cut off is left out. Raises: OSError."""
    whole_lines = path.read_text(encoding="utf-8", errors=ANY_NAME).rpartition("\n")[0]
    return list(csv.DictReader(io.StringIO(whole_lines, newline="")))
