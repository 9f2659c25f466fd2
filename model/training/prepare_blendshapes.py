"""Add the blendshapes that MediaPipe's Face Landmarker gives for every face to a prepared folder.

Rows are appended in order to an unfinished file, so a killed run can be resumed.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid, ImageUnreadable
from model.training.datasets import Dataset
from model.training.prepare import CHUNK_IMAGES, Progress
from model.training.prepared import BLENDSHAPES, load_prepared
from model.vision.blendshapes import BLENDSHAPE_COUNT, BlendshapeTeacher
from model.vision.images import decode_image

UNFINISHED_BLENDSHAPES = "blendshapes.unfinished"
"""File with the raw float32 rows of the images done so far"""


def check_task_file(task_file: Path) -> None:
    """Raises: DatasetInvalid if the file is not a Face Landmarker bundle; OSError."""
    BlendshapeTeacher(task_file).close()


def prepare_blendshapes(
    dataset: Dataset,
    folder: Path,
    task_file: Path,
    *,
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Write the blendshapes of every face in a folder that `prepare` has finished; existing ones stay.

    Args:
        task_file: the Face Landmarker bundle (.task).
        threads: number of Face Landmarkers that work in parallel; by default one per core.
    Raises: DatasetInvalid if the folder is not an output of `prepare` for this data set, or the task file is
        not a Face Landmarker bundle; OSError.
    """
    check_task_file(task_file)
    prepared = load_prepared(folder)
    images, faces = dataset.images, set(prepared.rows.tolist())
    complete = len(images) == len(prepared.all_landmarks)
    if not complete or [images[row].source for row in prepared.rows] != prepared.sources.tolist():
        raise DatasetInvalid(f"{folder} holds the output for another data set")
    if prepared.all_blendshapes is not None:
        progress(len(images), len(images))
        return
    teachers = threading.local()

    def teach(row: int) -> npt.NDArray[np.float32]:
        nothing = np.full(BLENDSHAPE_COUNT, np.nan, dtype=np.float32)
        if row not in faces:
            return nothing
        if not hasattr(teachers, "teacher"):
            teachers.teacher = BlendshapeTeacher(task_file)
        try:
            image = decode_image(dataset.read(images[row]))
        except (ImageUnreadable, OSError):
            return nothing
        points_px = prepared.all_landmarks[row, :, :2] / np.float32(image.reduction)
        found: npt.NDArray[np.float32] | None = teachers.teacher.blendshapes(image.pixels, points_px)
        return nothing if found is None else found

    unfinished, row_bytes = folder / UNFINISHED_BLENDSHAPES, BLENDSHAPE_COUNT * np.dtype(np.float32).itemsize
    with (
        unfinished.open("ab") as file,
        concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
    ):
        done = file.tell() // row_bytes
        file.truncate(done * row_bytes)
        progress(done, len(images))
        for start in range(done, len(images), CHUNK_IMAGES):
            chunk = range(start, min(start + CHUNK_IMAGES, len(images)))
            for row in pool.map(teach, chunk):
                file.write(row.tobytes())
            file.flush()
            progress(chunk.stop, len(images))
    partial = folder / (BLENDSHAPES + ".partial")
    with partial.open("wb") as file:
        np.save(file, np.fromfile(unfinished, dtype=np.float32).reshape(-1, BLENDSHAPE_COUNT))
    partial.replace(folder / BLENDSHAPES)
    unfinished.unlink()
