"""Turn a data set into patches on disk, through the same code that serves requests.

Rows are written in order and the manifest line last, so a run that was killed goes on where it was. The
manifest gets its name when everything is on disk and duplicates are marked.
"""

from __future__ import annotations

import collections
import concurrent.futures
import csv
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from model.errors import DatasetInvalid, ImageUnreadable
from model.faces import Face, FaceReader
from model.landmarks import LANDMARK_COUNT
from model.patches import PARTS, PATCH_SIZE_PX
from model.training.datasets import Dataset, LabelledImage
from model.training.prepared import (
    ANY_NAME,
    COLUMNS,
    DETECTIONS,
    DUPLICATE,
    FOUND,
    FOUND_AFTER_PADDING,
    LANDMARKS,
    MANIFEST,
    NOT_FOUND,
    PATCHES,
    UNFINISHED,
    UNREADABLE,
    Row,
    read_manifest,
)

MEASURED_SPLITS = ("test", "val")
"""An image that is in several splits stays in the first of these alone: what is measured was not seen."""
CHUNK_IMAGES = 256

Report = dict[str, collections.Counter[str]]
"""Per label, how often each detection path was taken"""


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Prepare every image of a data set into `folder`; goes on with what an earlier run has done.

    Args:
        threads: how many FaceMesh instances work at once (each releases the GIL); all cores by default.
        progress: called with (images done, images in all).
    Raises: DatasetInvalid if the folder holds the output for other images.
    """
    images = dataset.images
    folder.mkdir(parents=True, exist_ok=True)
    patches = _open_rows(
        folder / PATCHES, (len(images), len(PARTS), PATCH_SIZE_PX, PATCH_SIZE_PX, 3), np.uint8
    )
    landmarks = _open_rows(folder / LANDMARKS, (len(images), LANDMARK_COUNT, 2), np.float32)
    manifest_path = folder / (MANIFEST if (folder / MANIFEST).exists() else UNFINISHED)
    done = _resume(manifest_path, images)
    progress(done, len(images))
    with manifest_path.open("a", newline="", encoding="utf-8", errors=ANY_NAME) as manifest:
        writer = csv.DictWriter(manifest, COLUMNS, lineterminator="\n")
        if manifest.tell() == 0:
            writer.writeheader()
        for index, (image, (content, detection, face)) in enumerate(
            _read_faces(dataset, images[done:], threads or os.cpu_count() or 1), start=done
        ):
            if face is not None:
                patches[index] = face.patches
                landmarks[index] = face.landmarks.points_px
            writer.writerow(
                {
                    "source": image.source,
                    "label": image.label,
                    "split": image.split,
                    "group": image.group,
                    "content": content,
                    "detection": detection,
                }
            )
            if (index + 1) % CHUNK_IMAGES == 0 or index + 1 == len(images):
                manifest.flush()
                progress(index + 1, len(images))
    patches.flush()
    landmarks.flush()

    rows = read_manifest(manifest_path)
    _mark_duplicates(rows)
    _write_manifest(folder / MANIFEST, rows)
    (folder / UNFINISHED).unlink(missing_ok=True)
    report: Report = {row["label"]: collections.Counter(dict.fromkeys(DETECTIONS, 0)) for row in rows}
    for row in rows:
        report[row["label"]][row["detection"]] += 1
    return report


Outcome = tuple[str, str, Face | None]
"""Hash of the image's bytes, detection path, face"""


def _read_faces(
    dataset: Dataset, images: list[LabelledImage], threads: int
) -> Iterator[tuple[LabelledImage, Outcome]]:
    """Each image with its outcome, in order, `threads` at a time."""
    readers = threading.local()

    def read(image: LabelledImage) -> Outcome:
        if not hasattr(readers, "reader"):
            readers.reader = FaceReader()
        try:
            data = dataset.read(image)
        except (ImageUnreadable, OSError):
            return "", UNREADABLE, None
        content = hashlib.blake2b(data, digest_size=10).hexdigest()
        try:
            faces = readers.reader.read(data)
        except ImageUnreadable:
            return content, UNREADABLE, None
        if not faces:
            return content, NOT_FOUND, None
        return content, FOUND_AFTER_PADDING if faces[0].landmarks.found_after_padding else FOUND, faces[0]

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(images), CHUNK_IMAGES):
            chunk = images[start : start + CHUNK_IMAGES]
            yield from zip(chunk, pool.map(read, chunk), strict=True)


def _mark_duplicates(rows: list[Row]) -> None:
    """Mark each image whose bytes are also in a split that is measured on."""
    splits_of = collections.defaultdict(set)
    for row in rows:
        if row["content"]:
            splits_of[row["content"]].add(row["split"])
    for row in rows:
        if row["detection"] == DUPLICATE or len(splits := splits_of[row["content"]]) < 2:
            continue
        kept = next((split for split in MEASURED_SPLITS if split in splits), min(splits))
        if row["split"] != kept:
            row["detection"] = DUPLICATE


def _open_rows(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap:
    if path.exists():
        try:
            np.load(path, mmap_mode="r")  # Opened for writing, a file that was cut off would be filled up.
            rows = np.lib.format.open_memmap(path, mode="r+")
        except (ValueError, EOFError):
            raise DatasetInvalid(f"{path} is damaged: remove {path.parent} and prepare anew") from None
        if rows.shape == shape and rows.dtype == dtype:
            return rows
        raise DatasetInvalid(f"{path.parent} holds the output for another data set")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _resume(manifest: Path, images: list[LabelledImage]) -> int:
    """How many images an earlier run completed; a line cut off by a kill is dropped from the file."""
    if not manifest.exists():
        return 0
    rows = read_manifest(manifest)
    for row, image in zip(rows, images, strict=False):
        expected = {
            "source": image.source,
            "label": image.label,
            "split": image.split,
            "group": image.group,
        }
        if tuple(row) != COLUMNS or any(row[name] != value for name, value in expected.items()):
            raise DatasetInvalid(f"{manifest.parent} holds the output for another data set")
    _write_manifest(manifest, rows)
    return len(rows)


def _write_manifest(path: Path, rows: list[Row]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8", errors=ANY_NAME) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
