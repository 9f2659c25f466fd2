from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.inference.errors import ReadingFailed
from app.inference.faces import FacePool
from app.inference.work_queue import MAX_FAILURES
from app.settings import Settings
from model.errors import ImageUnreadable, NoFace, SeveralFaces
from model.vision.face_detector import FaceDetector
from model.vision.faces import FaceReader
from model.vision.landmarks import LandmarkFinder
from model.vision.patches import LAYOUTS
from tests.support.samples import no_face, sample_bytes, two_faces


@pytest.fixture
def pool() -> Iterator[FacePool]:
    pool = FacePool(LAYOUTS["tight"], Settings(face_threads=1, max_queued_images=9, max_pixels=10**6))
    yield pool
    pool.queue.close()


def test_an_image_has_its_largest_face_or_all_its_faces_or_its_only_face(pool: FacePool) -> None:
    images = [sample_bytes("anger", 0), two_faces(), no_face(), b"no image"]
    *largest, unreadable = asyncio.run(pool.find_faces(images))
    assert [len(faces) for faces in largest if isinstance(faces, list)] == [1, 1, 0]
    assert isinstance(unreadable, ImageUnreadable)
    (both,) = asyncio.run(pool.find_faces([two_faces()], all_faces=True))
    assert isinstance(both, list)
    assert both[0].landmarks.area_px >= both[1].landmarks.area_px
    one, *errors = asyncio.run(pool.find_single_faces(images))
    assert isinstance(one, list)
    assert one[0].patches.shape == (3, 48, 48, 3)
    assert [type(error) for error in errors] == [SeveralFaces, NoFace, ImageUnreadable]


@pytest.mark.parametrize("video", [False, True])
def test_a_reader_that_fails_fails_one_image_and_is_replaced(
    pool: FacePool, monkeypatch: pytest.MonkeyPatch, video: bool
) -> None:
    readers = []
    read = FaceReader.read

    def failing(self: FaceReader, data: bytes, **options: Any) -> Any:
        readers.append(self)
        if len(readers) == 2:
            raise RuntimeError
        return read(self, data, **options)

    monkeypatch.setattr(FaceReader, "read", failing)
    stream = pool.open_stream() if video else None
    for failed in (False, True, False):
        if stream is not None:
            found = asyncio.run(pool.find_in_frame(stream, sample_bytes("anger", 0)))
        else:
            (found,) = asyncio.run(pool.find_faces([sample_bytes("anger", 0)]))
        assert isinstance(found, ReadingFailed if failed else list)
    assert readers[0] is readers[1] is not readers[2]
    if stream is not None:
        stream.close()


def test_a_reader_that_does_not_load_is_a_fault(pool: FacePool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError

    monkeypatch.setattr(FaceReader, "__init__", fail)
    for _ in range(MAX_FAILURES):
        assert pool.queue.fault is None
        with pytest.raises(OSError):  # noqa: PT011
            asyncio.run(pool.find_faces([sample_bytes("anger", 0)]))
    assert pool.queue.fault == "5 batches in a row failed on the faces thread"


def test_every_thread_has_loaded_all_that_finding_faces_takes_before_the_first_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[tuple[type, int]] = []
    for part in (LandmarkFinder, FaceDetector):

        def load(self: Any, *, original: Any = part.__init__, **options: Any) -> None:
            loaded.append((type(self), threading.get_ident()))
            original(self, **options)

        monkeypatch.setattr(part, "__init__", load)
    pool = FacePool(LAYOUTS["tight"], Settings(face_threads=3, max_queued_images=1))
    asyncio.run(pool.warm_up())
    assert len(loaded) == len({*loaded}) == 6
    asyncio.run(pool.find_faces([sample_bytes("anger", 0), no_face()] * 6))
    assert len(loaded) == 6
    pool.queue.close()
