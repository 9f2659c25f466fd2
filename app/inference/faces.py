"""Decodes images and finds faces on a bounded pool of threads, one FaceMesh per thread."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Sequence

from app.inference.errors import ReadingFailed
from app.inference.observer import Observer
from app.inference.work_queue import CLOSE_S, Lane, WorkQueue
from model.errors import CsrnError, ImageUnreadable, NoFace
from model.vision.faces import Face, FaceReader
from model.vision.patches import PatchLayout

logger = logging.getLogger("csrn")

Found = list[Face] | CsrnError
"""The faces of an image, largest first, or why it cannot be used"""


class FaceStream:
    """Follows the face of one video on whichever thread is free, one frame at a time."""

    def __init__(self, layout: PatchLayout, *, max_pixels: int) -> None:
        self._reader = FaceReader(layout, max_pixels=max_pixels, tracking=True)
        self._lock = threading.Lock()

    def read(self, frame: bytes) -> list[Face]:
        """As FaceReader.read."""
        with self._lock:
            return self._reader.read(frame)

    def close(self) -> None:
        """Waits for the frame that is being read, if that does not take too long."""
        if self._lock.acquire(timeout=CLOSE_S):
            self._reader.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Image:
    data: bytes
    single: bool = False
    """Whether it must show one face"""
    all_faces: bool = False
    stream: FaceStream | None = None
    """Whose frame it is, if it is one"""


class FacePool:
    """Runs FaceReader off the event loop. At most `max_queued` images wait."""

    def __init__(
        self,
        layout: PatchLayout,
        *,
        threads: int,
        max_queued: int,
        max_pixels: int,
        stall_s: float,
        observer: Observer = Observer(),
    ) -> None:
        """layout: which patches the checkpoint needs."""
        self._readers = threading.local()
        self._layout, self._max_pixels, self._observer = layout, max_pixels, observer
        self._queue: WorkQueue[_Image, Found] = WorkQueue(
            self._run,
            name="faces",
            threads=threads,
            work_of=lambda image: 1,
            max_batch_work=1,
            max_queued_work=max_queued,
            stall_s=stall_s,
            observer=observer,
        )

    @property
    def fault(self) -> str | None:
        """What is wrong with its threads, if anything is."""
        return self._queue.fault

    def abandon(self) -> None:
        """As WorkQueue.abandon."""
        self._queue.abandon()

    @property
    def queued(self) -> int:
        """Images that wait."""
        return self._queue.queued_work

    async def find_faces(self, images: Sequence[bytes], *, all_faces: bool, lane: Lane) -> list[Found]:
        """As FaceReader.read of each. Raises: QueueFull."""
        jobs = [_Image(data=data, all_faces=all_faces) for data in images]
        return self._told(await self._queue.submit_all(jobs, lane=lane))

    async def find_single_faces(self, images: Sequence[bytes], *, lane: Lane) -> list[Found]:
        """As FaceReader.read_single of each: one face, or why there is none. Raises: QueueFull."""
        jobs = [_Image(data=data, single=True) for data in images]
        return self._told(await self._queue.submit_all(jobs, lane=lane))

    async def open_stream(self) -> FaceStream:
        """For the frames of one video."""
        return await asyncio.to_thread(FaceStream, self._layout, max_pixels=self._max_pixels)

    async def find_in_frame(self, stream: FaceStream, frame: bytes, *, lane: Lane) -> Found:
        """The one face of a frame, followed from frame to frame. Raises: QueueFull."""
        found = await self._queue.submit(_Image(data=frame, stream=stream), lane=lane)
        return self._told([found])[0]

    async def warm_up(self) -> None:
        """Load the landmark models, so that the first request need not wait for them."""
        await self._queue.submit(_Image(data=b""))

    def close(self) -> None:
        self._queue.close()

    def _told(self, found: list[Found]) -> list[Found]:
        for faces in found:
            if faces == [] or isinstance(faces, NoFace):
                self._observer.face_not_found()
            elif isinstance(faces, ImageUnreadable):
                self._observer.image_unreadable()
        return found

    def _run(self, images: Sequence[_Image]) -> list[Found]:
        return [self._read(image) for image in images]

    def _read(self, image: _Image) -> Found:
        try:
            if image.stream is not None:
                return image.stream.read(image.data)
            reader = self._own_reader()
            if image.single:
                return [reader.read_single(image.data)]
            return reader.read(image.data, all_faces=image.all_faces)
        except CsrnError as error:
            return error
        except Exception:
            logger.exception("finding faces failed")
            # What MediaPipe made of it is unknown: the next image gets a new one.
            self._readers.__dict__.pop("reader", None)
            return ReadingFailed()

    def _own_reader(self) -> FaceReader:
        if not hasattr(self._readers, "reader"):
            self._readers.reader = FaceReader(self._layout, max_pixels=self._max_pixels)
        reader: FaceReader = self._readers.reader
        return reader
