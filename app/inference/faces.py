"""Decodes images and finds their faces on several threads."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence

from app.inference.errors import ReadingFailed
from app.inference.fairness import Lane
from app.inference.observer import Observer
from app.inference.work_queue import CLOSE_S, WorkQueue
from app.settings import Settings
from model.errors import CsrnError, ImageUnreadable, NoFace
from model.vision.faces import Face, FaceReader
from model.vision.image_memory import reading_bytes
from model.vision.patches import PatchLayout

logger = logging.getLogger("csrn")

Found = list[Face] | CsrnError
"""The faces of an image, largest first, or why the image cannot be used"""
MAX_SMALL_BYTES = 10 * 2**20
"""The most memory that reading a small image takes, such as one of 640 x 480 pixels. Each thread has
this amount for itself"""
START_S = 60
"""The longest that the first job of a thread waits for the other threads"""
Read = Callable[[FaceReader, bytes], list[Face]]


class FaceStream:
    """Reads the images of one thread or one video, one at a time, with one FaceReader. Thread-safe."""

    def __init__(self, load: Callable[[], FaceReader]) -> None:
        """load: makes the FaceReader when the first image is read."""
        self._load = load
        self._reader: FaceReader | None = None
        self._lock = threading.Lock()

    def read(self, read: Read, image: bytes) -> Found:
        """The faces that `read` finds. Raises: what `load` raises."""
        with self._lock:
            self._reader = self._reader or self._load()
            try:
                return read(self._reader, image)
            except CsrnError as error:
                return error
            except Exception:
                logger.exception("finding faces failed")
                # MediaPipe's state is unknown now, so the next image gets a new FaceReader.
                self._reader = None
                return ReadingFailed()

    def close(self) -> None:
        """Free the FaceReader; wait at most CLOSE_S for the image that it reads."""
        if self._lock.acquire(timeout=CLOSE_S):
            if self._reader is not None:
                self._reader.close()
            self._lock.release()


class FacePool:
    """Finds faces on its own threads. Its methods raise QueueFull and WorkLost.

    The images that are read at the same time take at most decode_memory_bytes together. Large ones wait in
    the queue until there is room for them, and small ones pass them.
    """

    def __init__(self, layout: PatchLayout, settings: Settings, *, observer: Observer = Observer()) -> None:
        """layout: the patches that the checkpoint needs."""
        self._load = functools.partial(FaceReader, layout, max_pixels=settings.max_pixels)
        self._threads, self._max_pixels = settings.face_threads, settings.max_pixels
        self._observer = observer
        small_bytes = settings.decode_memory_bytes // 2 // settings.face_threads
        self._small_bytes = min(MAX_SMALL_BYTES, small_bytes)
        self._of_thread = threading.local()
        self.queue = WorkQueue(
            name="faces",
            threads=settings.face_threads,
            max_queued=settings.max_queued_images,
            room=settings.decode_memory_bytes - self._small_bytes * settings.face_threads,
            stall_s=settings.stall_s,
            observer=observer,
        )

    async def find_faces(
        self, images: Sequence[bytes], *, all_faces: bool = False, lane: Lane = Lane()
    ) -> list[Found]:
        """The faces of each image, or the reason why the image cannot be used.

        Args: all_faces, whether to find all faces, largest first, and not only the largest.
        """
        return await self._find(functools.partial(FaceReader.read, all_faces=all_faces), images, lane)

    async def find_single_faces(self, images: Sequence[bytes], *, lane: Lane = Lane()) -> list[Found]:
        """The only face of each support image."""
        return await self._find(lambda reader, image: [reader.read_single(image)], images, lane)

    async def find_in_frame(self, stream: FaceStream, frame: bytes, *, lane: Lane = Lane()) -> Found:
        """The face of a video's next frame, followed from its last frame."""
        (found,) = await self._find(FaceReader.read, [frame], lane, stream)
        return found

    def open_stream(self) -> FaceStream:
        """For the frames of one video; the caller closes it."""
        return FaceStream(functools.partial(self._load, tracking=True))

    async def warm_up(self) -> None:
        """Load the FaceReader of every thread, so that no request waits for it.

        Raises: BrokenBarrierError if the threads do not start within START_S.
        """
        started = threading.Barrier(self._threads)

        def load(_: Sequence[bytes]) -> list[Found]:
            # No thread ends its job before each thread has one.
            started.wait(START_S)
            return [self._thread_stream().read(lambda *_: [], b"")]

        await self.queue.submit(load, [b""] * self._threads)

    async def _find(
        self, read: Read, images: Sequence[bytes], lane: Lane, stream: FaceStream | None = None
    ) -> list[Found]:
        def find(batch: Sequence[bytes]) -> list[Found]:
            return [(stream or self._thread_stream()).read(read, image) for image in batch]

        found = await self.queue.submit(find, images, room_of=self._room_of, lane=lane)
        for faces in found:
            if faces == [] or isinstance(faces, NoFace):
                self._observer.face_not_found()
            elif isinstance(faces, ImageUnreadable):
                self._observer.image_unreadable()
        return found

    def _room_of(self, image: bytes) -> int:
        """The memory that reading an image takes, or 0 for a small image, for which there is always room."""
        needed_bytes = reading_bytes(image, max_pixels=self._max_pixels)
        return needed_bytes if needed_bytes > self._small_bytes else 0

    def _thread_stream(self) -> FaceStream:
        """The FaceReader of the current thread."""
        if not hasattr(self._of_thread, "stream"):
            self._of_thread.stream = FaceStream(self._load)
        stream: FaceStream = self._of_thread.stream
        return stream
