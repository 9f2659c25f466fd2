"""A prepared folder, which `csrn prepare` writes and every other command reads.

It has one row per image of the data set, whether or not a face was found:

    manifest.csv          source, label, split, group, person, votes, content, detection;
                          named manifest.csv.unfinished until it is complete
    patches-<layout>.npy  (images, 3 parts, size, size, 3) uint8, one file for each patch layout
    landmarks.npy         (images, 468, 3) float32: x, y and depth in pixels of the source image
    blendshapes.npy       (images, 52) float32, NaN if unknown; present only if requested
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid
from model.training.datasets.votes import VOTE_COLUMNS
from model.vision.patches import LAYOUTS, LayoutName

MANIFEST, UNFINISHED = "manifest.csv", "manifest.csv.unfinished"
PATCHES: dict[LayoutName, str] = {name: f"patches-{name}.npy" for name in LAYOUTS}
LANDMARKS, BLENDSHAPES = "landmarks.npy", "blendshapes.npy"
ANY_NAME = "surrogateescape"
"""Error handler for encoding and decoding manifests: a file name may contain any bytes"""
COLUMNS = ("source", "label", "split", "group", "person", "votes", "content", "detection")
DETECTIONS = FOUND, FOUND_AFTER_PADDING, NOT_FOUND, UNREADABLE, DUPLICATE = (
    "found",
    "found_after_padding",
    "not_found",
    "unreadable",
    "duplicate",
)
"""Results of face detection; `duplicate` marks an image whose bytes are also in a split for measuring"""

CHUNK_IMAGES = 256
"""Number of images after which progress is saved and shown"""

Row = dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedImages:
    """Images with a face, in manifest order. Their patches stay on disk until they are read."""

    folder: Path
    labels: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    """Group of each image, such as the video of a frame; "" for none"""
    persons: npt.NDArray[np.str_]
    """Person shown; "" if unknown"""
    votes: npt.NDArray[np.int64]
    """(images, 10) number of annotators who chose each of VOTE_COLUMNS; zeros without votes"""
    contents: npt.NDArray[np.str_]
    """Hash of the bytes of each image"""
    rows: npt.NDArray[np.int64]
    """Index of each image in the arrays below"""
    all_patches: Mapping[LayoutName, npt.NDArray[np.uint8]]
    all_landmarks: npt.NDArray[np.float32]
    all_blendshapes: npt.NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.rows)

    def patches(self, chosen: npt.NDArray[np.int64] | slice, layout: LayoutName) -> npt.NDArray[np.uint8]:
        """Patches (chosen, 3 parts, size, size, 3) uint8 of the chosen images."""
        return np.asarray(self.all_patches[layout][self.rows[chosen]])

    def landmarks(self) -> npt.NDArray[np.float32]:
        """Landmarks (images, 468, 3) float32: x, y and depth in pixels of the image."""
        return np.asarray(self.all_landmarks[self.rows])

    def blendshapes(self) -> npt.NDArray[np.float32]:
        """Coefficients (images, 52) float32 in the order of BLENDSHAPE_NAMES; NaN if unknown.

        Raises: DatasetInvalid if the folder was prepared without them.
        """
        if self.all_blendshapes is None:
            raise DatasetInvalid(
                f"{self.folder} was prepared without blendshapes: "
                "run `csrn prepare` again with --blendshapes FACE_LANDMARKER.task"
            )
        return np.asarray(self.all_blendshapes[self.rows])

    @property
    def kin(self) -> npt.NDArray[np.str_]:
        """(images,) equal for images that must not meet in an episode: of one video, or with equal bytes."""
        return np.where(self.groups == "", self.contents, self.groups)

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> PreparedImages:
        """Select images by a mask or by indices (images,)."""
        names = ("labels", "sources", "groups", "persons", "votes", "contents", "rows")
        selected = {name: getattr(self, name)[chosen] for name in names}
        return dataclasses.replace(self, **selected)


def load_prepared(folder: Path, *, split: str | None = None) -> PreparedImages:
    """Load the images with a face from a prepared folder, of one split or of all.

    Raises: DatasetInvalid if the folder is not a complete output of `prepare`, or has no such split.
    """
    rows = _finished_rows(folder)
    try:
        patches = {name: np.load(folder / file, mmap_mode="r") for name, file in PATCHES.items()}
        landmarks = np.load(folder / LANDMARKS, mmap_mode="r")
        blendshapes = None
        if (folder / BLENDSHAPES).exists():
            blendshapes = np.load(folder / BLENDSHAPES, mmap_mode="r")
        kept = [
            index
            for index, row in enumerate(rows)
            if row["detection"] in (FOUND, FOUND_AFTER_PADDING) and split in (None, row["split"])
        ]
        columns = {
            f"{name}s": np.array([rows[index][name] for index in kept], dtype=np.str_)
            for name in ("label", "source", "group", "person", "content")
        }
        votes = np.zeros((len(kept), len(VOTE_COLUMNS)), dtype=np.int64)
        for place, index in enumerate(kept):
            if counts := rows[index]["votes"]:
                votes[place] = [int(count) for count in counts.split()]
    except (OSError, ValueError, KeyError, EOFError):
        raise DatasetInvalid(f"{folder} is not an output of `csrn prepare`") from None
    arrays = [*patches.values(), landmarks, *([] if blendshapes is None else [blendshapes])]
    if any(len(array) != len(rows) for array in arrays):
        raise DatasetInvalid(f"{folder} is damaged: its files have different lengths")
    splits = sorted({row["split"] for row in rows})
    if split is not None and split not in splits:
        raise DatasetInvalid(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
    return PreparedImages(
        folder=folder,
        **columns,
        votes=votes,
        rows=np.array(kept, dtype=np.int64),
        all_patches=patches,
        all_landmarks=landmarks,
        all_blendshapes=blendshapes,
    )


def training_split(folder: Path) -> str | None:
    """The default split for training: `train`, or None for all images if there is no such split.

    Raises: DatasetInvalid if the folder is not an output of `prepare`.
    """
    return "train" if any(row.get("split") == "train" for row in _finished_rows(folder)) else None


def read_manifest(path: Path) -> list[Row]:
    """Read the rows of a manifest, without an incomplete last line. Raises: OSError."""
    whole_lines = path.read_text(encoding="utf-8", errors=ANY_NAME).rpartition("\n")[0]
    return list(csv.DictReader(io.StringIO(whole_lines, newline="")))


def write_manifest(path: Path, rows: list[Row]) -> None:
    """Replace a manifest atomically."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8", errors=ANY_NAME) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def open_rows(path: Path, shape: tuple[int, ...], dtype: type[np.generic], *, resumed: bool) -> np.memmap:
    """Open the array of an earlier run, or create one of zeros for a new run. Raises: DatasetInvalid."""
    if not path.exists():
        if resumed:
            raise DatasetInvalid(f"{path} is missing: remove {path.parent} and run `csrn prepare` again")
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        np.load(path, mmap_mode="r")  # fails on a truncated file, which opening for writing would extend
        rows = np.lib.format.open_memmap(path, mode="r+")
    except (ValueError, EOFError):
        raise DatasetInvalid(
            f"{path} is damaged: remove {path.parent} and run `csrn prepare` again"
        ) from None
    if rows.shape != shape or rows.dtype != dtype:
        raise DatasetInvalid(f"{path.parent} holds the output for another data set")
    return rows


def _finished_rows(folder: Path) -> list[Row]:
    if (folder / UNFINISHED).exists():
        raise DatasetInvalid(f"{folder} is not completely prepared: run `csrn prepare` again")
    try:
        return read_manifest(folder / MANIFEST)
    except (OSError, ValueError):
        raise DatasetInvalid(f"{folder} is not an output of `csrn prepare`") from None
