"""Turn a data set into patches and landmarks on disk, with the same code that serves requests.

Arrays are written in row order and each manifest line after them, so a killed run can be resumed. The
manifest gets its final name once all images are done, duplicates are marked, and votes and persons are added.
"""

from __future__ import annotations

import collections
import concurrent.futures
import csv
import dataclasses
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid, ImageUnreadable
from model.training.datasets import Dataset, LabelledImage
from model.training.datasets.dataset import content_hash
from model.training.datasets.votes import VoteTable
from model.training.prepare_blendshapes import prepare_blendshapes
from model.training.prepared import (
    ANY_NAME,
    CHUNK_IMAGES,
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
    open_rows,
    read_manifest,
    write_manifest,
)
from model.vision.blendshapes import BlendshapeTeacher
from model.vision.face_search import FaceSearch
from model.vision.faces import find_faces
from model.vision.landmarks import LANDMARK_COUNT
from model.vision.patches import LAYOUTS, PART_COUNT, LayoutName, Patches

MEASURED_SPLITS = ("test", "val")
"""An image that is in several splits stays in the first of these alone, so training never sees it"""

Report = dict[str, collections.Counter[str]]
"""Number of images per label and result of face detection"""


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    votes: VoteTable | None = None,
    person: re.Pattern[str] | None = None,
    task_file: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Report:
    """Prepare every image of a data set in `folder`, and resume an earlier run.

    Args:
        votes: by source or content hash; by default a finished folder keeps its votes, and a new one gets the
            votes that are shipped for the data set.
        person: the first group of its first match in an image's source names the person shown; by default a
            finished folder keeps its persons.
        task_file: bundle of MediaPipe's Face Landmarker, to add blendshapes; those of a finished folder stay.
        progress: called with (stage, images done, images in total).
    Raises: DatasetInvalid if the folder holds the output for other images or is damaged, if `person` matches
        no image, or if `task_file` is no such bundle; OSError.
    """
    if task_file is not None:
        BlendshapeTeacher(task_file).close()  # to refuse a wrong file before any work
    images = dataset.images
    persons = None if person is None else match_persons(images, person)
    folder.mkdir(parents=True, exist_ok=True)
    finished = (folder / MANIFEST).exists()
    manifest_path = folder / (MANIFEST if finished else UNFINISHED)
    done = _resume(manifest_path, images)
    patches = {
        name: open_rows(
            folder / PATCHES[name],
            (len(images), PART_COUNT, layout.size_px, layout.size_px, 3),
            np.uint8,
            resumed=done > 0,
        )
        for name, layout in LAYOUTS.items()
    }
    landmarks = open_rows(folder / LANDMARKS, (len(images), LANDMARK_COUNT, 3), np.float32, resumed=done > 0)
    progress("preparing", done, len(images))
    with manifest_path.open("a", newline="", encoding="utf-8", errors=ANY_NAME) as manifest:
        writer = csv.DictWriter(manifest, COLUMNS, lineterminator="\n")
        if manifest.tell() == 0:
            writer.writeheader()
        for index, (image, outcome) in enumerate(_read_faces(dataset, images[done:]), start=done):
            if outcome.landmarks is not None:
                for name, of_layout in outcome.patches.items():
                    patches[name][index] = of_layout
                landmarks[index] = outcome.landmarks
            writer.writerow(
                _expected(image)
                | {"person": "", "votes": "", "content": outcome.content, "detection": outcome.detection}
            )
            if (index + 1) % CHUNK_IMAGES == 0 or index + 1 == len(images):
                manifest.flush()
                progress("preparing", index + 1, len(images))
    for array in (*patches.values(), landmarks):
        array.flush()

    rows = read_manifest(manifest_path)
    _mark_duplicates(rows)
    if votes is None and not finished:
        votes = dataset.load_votes()
    for row in rows:
        if votes is not None:
            counts = votes.get(row["source"]) or votes.get(row["content"]) or ()
            row["votes"] = " ".join(map(str, counts))
        if persons is not None:
            row["person"] = persons[row["source"]]
    write_manifest(folder / MANIFEST, rows)
    (folder / UNFINISHED).unlink(missing_ok=True)
    if task_file is not None:
        prepare_blendshapes(dataset, folder, task_file, progress=functools.partial(progress, "blendshapes"))
    report: Report = {row["label"]: collections.Counter(dict.fromkeys(DETECTIONS, 0)) for row in rows}
    for row in rows:
        report[row["label"]][row["detection"]] += 1
    return report


def match_persons(images: list[LabelledImage], person: re.Pattern[str]) -> dict[str, str]:
    """The person of each image by its source; "" if the pattern does not match.

    Raises: DatasetInvalid if it matches no image.
    """
    matches = {image.source: person.search(image.source) for image in images}
    persons = {source: (match and match.group(1)) or "" for source, match in matches.items()}
    if not any(persons.values()):
        raise DatasetInvalid(
            f"{person.pattern!r} finds no person in any path of the data set, such as {images[0].source}"
        )
    return persons


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outcome:
    """The result of reading one image."""

    content: str
    """Hash of its bytes"""
    detection: str
    patches: dict[LayoutName, Patches] = dataclasses.field(default_factory=dict)
    landmarks: npt.NDArray[np.float32] | None = None
    """(468, 3): x, y and depth in pixels of the image; None without a face"""


def _read_faces(dataset: Dataset, images: list[LabelledImage]) -> Iterator[tuple[LabelledImage, _Outcome]]:
    """Each image with its outcome, in order, read by several threads."""
    of_thread = threading.local()

    def read(image: LabelledImage) -> _Outcome:
        if not hasattr(of_thread, "search"):
            of_thread.search = FaceSearch()
        try:
            data = dataset.read(image)
        except (ImageUnreadable, OSError):
            return _Outcome(content="", detection=UNREADABLE)
        content = content_hash(data)
        try:
            found = find_faces(data, of_thread.search)
        except ImageUnreadable:
            return _Outcome(content=content, detection=UNREADABLE)
        if not found.landmarks:
            return _Outcome(content=content, detection=NOT_FOUND)
        faces = {name: found.face(found.landmarks[0], layout) for name, layout in LAYOUTS.items()}
        landmarks = found.landmarks[0].enlarged(found.image.reduction)
        return _Outcome(
            content=content,
            detection=FOUND_AFTER_PADDING if landmarks.found_after_padding else FOUND,
            patches={name: face.patches for name, face in faces.items()},
            landmarks=np.column_stack([landmarks.points_px, landmarks.depths_px]),
        )

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), CHUNK_IMAGES):
            chunk = images[start : start + CHUNK_IMAGES]
            yield from zip(chunk, pool.map(read, chunk), strict=True)


def _mark_duplicates(rows: list[Row]) -> None:
    """Of images with the same bytes in several splits, keep those in one split and mark the others.

    The kept split is test, else val, else the first by name.
    """
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


def _resume(manifest: Path, images: list[LabelledImage]) -> int:
    """The number of images that an earlier run completed; also removes an incomplete last line."""
    if not manifest.exists():
        return 0
    rows = read_manifest(manifest)
    for row, image in zip(rows, images, strict=False):
        if tuple(row) != COLUMNS or any(row[name] != value for name, value in _expected(image).items()):
            raise DatasetInvalid(f"{manifest.parent} holds the output for another data set")
    write_manifest(manifest, rows)
    return len(rows)


def _expected(image: LabelledImage) -> Row:
    """The columns of an image's row that depend on the data set alone."""
    return {"source": image.source, "label": image.label, "split": image.split, "group": image.group}
