"""Decodes images and finds faces on a bounded pool of threads, one FaceMesh per thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

from app.batching import QueueFull
from model.faces import Face, FaceReader

T = TypeVar("T")


class FacePool:
    """Runs FaceReader off the event loop. At most `max_queued` images wait or are worked on."""

    def __init__(self, *, threads: int, max_queued: int, max_pixels: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="faces")
        self._readers = threading.local()
        self._max_pixels = max_pixels
        self._max_queued, self._queued = max_queued, 0

    def require_room(self, images: int) -> None:
        """Raises: QueueFull where that many more images do not fit."""
        if self._queued and self._queued + images > self._max_queued:
            raise QueueFull

    async def find_faces(self, data: bytes, *, all_faces: bool) -> list[Face]:
        """As FaceReader.read."""
        return await self._run(lambda reader: reader.read(data, all_faces=all_faces))

    async def find_single_face(self, data: bytes) -> Face:
        """As FaceReader.read_single."""
        return await self._run(lambda reader: reader.read_single(data))

    async def warm_up(self) -> None:
        """Load the landmark models, so that the first request need not wait for them."""
        await self._run(lambda reader: None)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    async def _run(self, work: Callable[[FaceReader], T]) -> T:
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(self._reader()))
        finally:
            self._queued -= 1

    def _reader(self) -> FaceReader:
        if not hasattr(self._readers, "reader"):
            self._readers.reader = FaceReader(max_pixels=self._max_pixels)
        reader: FaceReader = self._readers.reader
        return reader
