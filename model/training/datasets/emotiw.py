"""The film data sets of the EmotiW challenges: stills (SFEW) and clips (AFEW) in {Train,Val}/<Label>/.

SFEW 2.0 is Dhall et al., ICCV workshops 2011; AFEW is Dhall et al., IEEE MultiMedia 2012.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from model.errors import ImageUnreadable
from model.training.datasets.dataset import Dataset, LabelledImage, file_dataset, require_images
from model.vision.images import IMAGE_SUFFIXES

SPLITS = ("train", "val")
VIDEO_SUFFIXES = {".avi", ".mp4", ".mkv", ".mov"}
FRAMES_PER_VIDEO = 5


def open_sfew(source: Path) -> Dataset:
    """Open {Train,Val}/<Label>/<image>, also with one folder in between, such as Train_Aligned_Faces.

    A still that is present both whole and aligned forms one group. Labels are converted to lower case.
    Raises: DatasetInvalid.
    """
    images = [
        LabelledImage(
            source=path.relative_to(source).as_posix(),
            label=path.parent.name.lower(),
            split=split,
            group=f"{split}/{path.parent.name}/{path.stem}".lower(),
        )
        for path, split in _files(source, IMAGE_SUFFIXES)
    ]
    return file_dataset(source, images, expected="{Train,Val}/<Label>/<image>")


def open_afew(source: Path) -> Dataset:
    """Open {Train,Val}*/<Label>/<video>; FRAMES_PER_VIDEO evenly spread frames of each form one group.

    Labels are converted to lower case. An unreadable video is listed once, as an unreadable image.
    Raises: DatasetInvalid.
    """
    images = [
        LabelledImage(source=f"{video}#{frame:05}", label=path.parent.name.lower(), split=split, group=video)
        for path, split in _files(source, VIDEO_SUFFIXES)
        for video in [path.relative_to(source).as_posix()]
        for frame in _sampled_frames(path)
    ]
    images = require_images(images, source, expected="{Train,Val}/<Label>/<video>")
    return Dataset(images=images, read=lambda image: _read_frame(source, image))


def _files(source: Path, suffixes: set[str]) -> Iterator[tuple[Path, str]]:
    """The files in <split>*/<Label>/ and <split>*/<split>*/<Label>/, with their split."""
    for folder, split in _split_folders(source):
        for labels in [folder, *(inner for inner, _ in _split_folders(folder))]:
            for path in sorted(labels.glob("*/*")):
                if path.suffix.lower() in suffixes:
                    yield path, split


def _split_folders(folder: Path) -> list[tuple[Path, str]]:
    """The subfolders whose names start with the name of a split, with that split."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    named = [(path, path.name.lower().partition("_")[0]) for path in inner]
    return [(path, split) for path, split in named if split in SPLITS]


def _sampled_frames(path: Path) -> list[int]:
    """Numbers of the frames in the middle of FRAMES_PER_VIDEO equal sections of the video."""
    with _opened(path) as video:
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    sections = min(FRAMES_PER_VIDEO, count)
    return [int((index + 0.5) * count / sections) for index in range(sections)] or [0]


def _read_frame(source: Path, image: LabelledImage) -> bytes:
    name, _, frame = image.source.rpartition("#")
    with _opened(source / name) as video:
        # Seeking is inexact with most codecs; skipping the earlier frames is exact.
        skipped = all(video.grab() for _ in range(int(frame)))
        read, pixels = video.read() if skipped else (False, None)
    encoded, data = False, None
    if read:
        encoded, data = cv2.imencode(".png", np.asarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded or data is None:
        raise ImageUnreadable(f"{name}: frame {frame} cannot be read")
    return data.tobytes()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(str(path))
    try:
        yield video
    finally:
        video.release()
