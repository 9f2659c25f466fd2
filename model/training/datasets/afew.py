"""AFEW (Dhall et al., IEEE MultiMedia 2012): film clips in {Train,Val}/<Label>/, seen as sampled frames."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from model.errors import ImageUnreadable
from model.training.datasets.dataset import Dataset, LabelledImage, require_images
from model.training.datasets.sfew import split_files

VIDEO_SUFFIXES = {".avi", ".mp4", ".mkv", ".mov"}
FRAMES_PER_VIDEO = 5


@contextlib.contextmanager
def open_afew(source: Path) -> Iterator[Dataset]:
    """Open {Train,Val}*/<Label>/<video>; FRAMES_PER_VIDEO frames of each, evenly spread, form one group.

    Labels are taken in lower case. A video that cannot be read is listed once, as an image that
    cannot be read. Raises: DatasetInvalid.
    """
    images = []
    for path, split in split_files(source, VIDEO_SUFFIXES):
        video = path.relative_to(source).as_posix()
        images += [
            LabelledImage(
                source=f"{video}#{frame:05}", label=path.parent.name.lower(), split=split, group=video
            )
            for frame in _sampled_frames(path)
        ]
    images = require_images(images, source, expected="{Train,Val}/<Label>/<video>")
    yield Dataset(images=images, read=lambda image: _read_frame(source, image))


def _sampled_frames(path: Path) -> list[int]:
    """Numbers of the frames in the middle of FRAMES_PER_VIDEO equal stretches of the video."""
    with _opened(path) as video:
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    stretches = min(FRAMES_PER_VIDEO, count)
    return [int((index + 0.5) * count / stretches) for index in range(stretches)] or [0]


def _read_frame(source: Path, image: LabelledImage) -> bytes:
    name, _, frame = image.source.rpartition("#")
    with _opened(source / name) as video:
        # Seeking is inexact with most codecs; passing over the frames before is exact.
        for _ in range(int(frame)):
            if not video.grab():
                raise ImageUnreadable(f"{name} has no frame {frame}")
        read, pixels = video.read()
        if not read:
            raise ImageUnreadable(f"{name} has no frame {frame}")
    encoded, data = cv2.imencode(".png", np.asarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded:
        raise ImageUnreadable(f"{name}: frame {frame} cannot be read")
    return data.tobytes()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(str(path))
    try:
        yield video
    finally:
        video.release()
