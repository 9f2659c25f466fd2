"""Turn a data set into patches on disk, through the same code that serves requests.

A prepared folder holds one row per image, found or not:

    manifest.csv     source, label, split, detection
    patches.npy      (images, 3 parts, 64, 64, 3) uint8
    landmarks.npy    (images, 468, 2) float32, pixels of the source image

Rows are written in order and the manifest line last, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import collections
import concurrent.futures
import csv
import dataclasses
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid, ImageUnreadable
from model.faces import Face, FaceReader
from model.landmarks import LANDMARK_COUNT
from model.patches import PARTS, PATCH_SIZE_PX
from model.training.datasets import Dataset, LabelledImage

MANIFEST, PATCHES, LANDMARKS = "manifest.csv", "patches.npy", "landmarks.npy"
COLUMNS = ("source", "label", "split", "detection")
FOUND, FOUND_AFTER_PADDING, NOT_FOUND, UNREADABLE = (
    "found",
    "found_after_padding",
    "not_found",
    "unreadable",
)
CHUNK_IMAGES = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedImages:
    """The images of a prepared folder whose face was found, in manifest order."""

    labels: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    patches: npt.NDArray[np.uint8]
    """(images, 3 parts, 64, 64, 3) uint8"""

    def select(self, chosen: npt.NDArray[np.bool_]) -> PreparedImages:
        """The images where `chosen` (images,) is true."""
        return PreparedImages(
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            sources=self.sources[chosen],
            patches=self.patches[chosen],
        )


def load_prepared(folder: Path, *, split: str | None = None) -> PreparedImages:
    """Load the found faces of a prepared folder, of one split or of all.

    Raises: DatasetInvalid if the folder is not a complete output of `prepare`, or has no such split.
    """
    try:
        rows = _read_manifest(folder / MANIFEST)
        patches = np.load(folder / PATCHES, mmap_mode="r")
    except (OSError, ValueError):
        raise DatasetInvalid(f"{folder} is not an output of `csrn prepare`") from None
    if len(rows) != len(patches):
        raise DatasetInvalid(
            f"{folder}: {len(rows)} of {len(patches)} images are prepared; run `csrn prepare` again"
        )
    splits = sorted({row["split"] for row in rows})
    if split is not None and split not in splits:
        raise DatasetInvalid(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
    kept = [
        index
        for index, row in enumerate(rows)
        if row["detection"] in (FOUND, FOUND_AFTER_PADDING) and split in (None, row["split"])
    ]
    return PreparedImages(
        labels=np.array([rows[index]["label"] for index in kept], dtype=np.str_),
        splits=np.array([rows[index]["split"] for index in kept], dtype=np.str_),
        sources=np.array([rows[index]["source"] for index in kept], dtype=np.str_),
        patches=patches[kept],
    )


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, collections.Counter[str]]:
    """Prepare every image of a data set into `folder`; goes on with what an earlier run has done.

    Args:
        threads: how many FaceMesh instances work at once; all cores by default.
        progress: called with (images done, images in all).
    Returns: per label, how often each detection outcome occurred.
    Raises: DatasetInvalid if the folder holds the output for other images.
    """
    images = dataset.images
    folder.mkdir(parents=True, exist_ok=True)
    patches = _open_rows(
        folder / PATCHES, (len(images), len(PARTS), PATCH_SIZE_PX, PATCH_SIZE_PX, 3), np.uint8
    )
    landmarks = _open_rows(folder / LANDMARKS, (len(images), LANDMARK_COUNT, 2), np.float32)
    done = _resume(folder / MANIFEST, images)
    report: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in done:
        report[row["label"]][row["detection"]] += 1

    readers = threading.local()

    def read(image: LabelledImage) -> tuple[str, Face | None]:
        if not hasattr(readers, "reader"):
            readers.reader = FaceReader()
        try:
            faces = readers.reader.read(dataset.read(image))
        except ImageUnreadable:
            return UNREADABLE, None
        if not faces:
            return NOT_FOUND, None
        return FOUND_AFTER_PADDING if faces[0].landmarks.found_after_padding else FOUND, faces[0]

    progress(len(done), len(images))
    with (
        concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count()) as pool,
        (folder / MANIFEST).open("a", newline="", encoding="utf-8") as manifest,
    ):
        writer = csv.writer(manifest, lineterminator="\n")
        if not done:
            writer.writerow(COLUMNS)
        for start in range(len(done), len(images), CHUNK_IMAGES):
            chunk = range(start, min(start + CHUNK_IMAGES, len(images)))
            outcomes = pool.map(read, [images[index] for index in chunk])
            for index, (detection, face) in zip(chunk, outcomes, strict=True):
                image = images[index]
                if face is not None:
                    patches[index] = face.patches
                    landmarks[index] = face.landmarks.points_px
                writer.writerow((image.source, image.label, image.split, detection))
                report[image.label][detection] += 1
            manifest.flush()
            progress(chunk.stop, len(images))
    patches.flush()
    landmarks.flush()
    return dict(report)


def _open_rows(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap:
    if path.exists():
        rows = np.lib.format.open_memmap(path, mode="r+")
        if rows.shape == shape and rows.dtype == dtype:
            return rows
        raise DatasetInvalid(f"{path.parent} holds the output for another data set")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _resume(manifest: Path, images: list[LabelledImage]) -> list[dict[str, str]]:
    """Rows that an earlier run completed; a line cut off by a kill is dropped from the file."""
    if not manifest.exists():
        return []
    text = manifest.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        manifest.write_text(whole, encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(whole)))
    for row, image in zip(rows, images, strict=False):
        if (row["source"], row["label"], row["split"]) != (image.source, image.label, image.split):
            raise DatasetInvalid(f"{manifest.parent} holds the output for another data set")
    return rows


def _read_manifest(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
