"""Add the blendshapes that MediaPipe's Face Landmarker gives for every face to a prepared folder."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.errors import ImageUnreadable
from model.training.datasets import Dataset
from model.training.prepared import BLENDSHAPES, CHUNK_IMAGES, load_prepared, open_rows
from model.vision.blendshapes import BLENDSHAPE_COUNT, BlendshapeTeacher
from model.vision.images import decode_image

UNFINISHED_BLENDSHAPES = "blendshapes.npy.unfinished"
"""Its rows are zeros until their image is done"""


def prepare_blendshapes(
    dataset: Dataset, folder: Path, task_file: Path, *, progress: Callable[[int, int], None]
) -> None:
    """Write the blendshapes of every face in a finished folder, and resume an earlier run.

    Args:
        task_file: the Face Landmarker bundle (.task).
        progress: called with (images done, images in total).
    Raises: DatasetInvalid if the folder or the task file is damaged; OSError.
    """
    prepared, images = load_prepared(folder), dataset.images
    if prepared.all_blendshapes is not None:
        progress(len(images), len(images))
        return
    faces, teachers = set(prepared.rows.tolist()), threading.local()

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

    unfinished = folder / UNFINISHED_BLENDSHAPES
    blendshapes = open_rows(unfinished, (len(images), BLENDSHAPE_COUNT), np.float32, resumed=False)
    missing = np.flatnonzero(blendshapes[:, -1] == 0)
    progress(len(images) - len(missing), len(images))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(missing), CHUNK_IMAGES):
            chunk = missing[start : start + CHUNK_IMAGES]
            blendshapes[chunk] = list(pool.map(teach, chunk.tolist()))
            progress(len(images) - len(missing) + start + len(chunk), len(images))
    blendshapes.flush()
    unfinished.replace(folder / BLENDSHAPES)
