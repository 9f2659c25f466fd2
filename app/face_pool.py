"""Decodes images and finds faces on a bounded pool of threads, one FaceMesh per thread."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

from app.batching import Batcher, Lane
from model.errors import CsrnError
from model.faces import Face, FaceReader

Found = list[Face] | CsrnError
"""The faces of an image, largest first, or why it cannot be used"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Image:
    data: bytes
    single: bool = False
    """Whether it must show one face"""
    all_faces: bool = False


class FacePool:
    """Runs FaceReader off the event loop. At most `max_queued` images wait."""

    def __init__(self, *, threads: int, max_queued: int, max_pixels: int) -> None:
        self._readers = threading.local()
        self._max_pixels = max_pixels
        self._batcher: Batcher[_Image, Found] = Batcher(
            self._run,
            name="faces",
            threads=threads,
            work_of=lambda image: 1,
            max_batch_work=1,
            max_queued_work=max_queued,
        )

    @property
    def alive(self) -> bool:
        return self._batcher.alive

    async def find_faces(self, images: Sequence[bytes], *, all_faces: bool, lane: Lane) -> list[Found]:
        """As FaceReader.read of each. Raises: QueueFull."""
        jobs = [_Image(data=data, all_faces=all_faces) for data in images]
        return await self._batcher.submit_all(jobs, lane=lane)

    async def find_single_faces(self, images: Sequence[bytes], *, lane: Lane) -> list[Found]:
        """As FaceReader.read_single of each: one face, or why there is none. Raises: QueueFull."""
        jobs = [_Image(data=data, single=True) for data in images]
        return await self._batcher.submit_all(jobs, lane=lane)

    async def warm_up(self) -> None:
        """Load the landmark models, so that the first request need not wait for them."""
        await self._batcher.submit(_Image(data=b""))

    def close(self) -> None:
        self._batcher.close()

    def _run(self, images: Sequence[_Image]) -> list[Found]:
        return [self._read(image) for image in images]

    def _read(self, image: _Image) -> Found:
        if not hasattr(self._readers, "reader"):
            self._readers.reader = FaceReader(max_pixels=self._max_pixels)
        reader: FaceReader = self._readers.reader
        try:
            if image.single:
                return [reader.read_single(image.data)]
            return reader.read(image.data, all_faces=image.all_faces)
        except CsrnError as error:
            return error
