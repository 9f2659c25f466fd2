"""The way of an image: bytes to faces on the pool, patches to scores on the device thread."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from app.batching import Batcher
from app.face_pool import FacePool
from model.checkpoint import Checkpoint
from model.classifier import Classifier, ClassScore, Example, Features, SupportSet
from model.errors import CsrnError
from model.faces import Box, Face


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upload:
    """One image as a client sent it."""

    filename: str | None
    data: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportFace:
    """The face of one support image, encoded."""

    box_px: Box
    features: Features
    """(3 parts, 64, 14, 14) float16"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredFace:
    """One face of a query with its class scores, best first."""

    box_px: Box
    scores: list[ClassScore]


T = TypeVar("T")
SupportOutcome = SupportFace | CsrnError
QueryOutcome = list[ScoredFace] | CsrnError
SupportKey = tuple[str, int]
"""Session id and revision"""


class Timings:
    """Milliseconds spent per stage of one request."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.stages_ms: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        """Everything since the last mark was this stage."""
        now = time.perf_counter()
        self.stages_ms[stage] = round((now - self._last) * 1000, 2)
        self.stages_ms["total"] = round((now - self._start) * 1000, 2)
        self._last = now


@dataclasses.dataclass(frozen=True)
class _Encode:
    patches: npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class _Prepare:
    examples: Sequence[Example]


@dataclasses.dataclass(frozen=True)
class _Score:
    patches: npt.NDArray[np.uint8]
    support: SupportSet


_Job = _Encode | _Prepare | _Score
_Outcome = Features | SupportSet | list[list[ClassScore]]


class Engine:
    """Encodes support images and classifies queries. Knows sessions only by the key of their cache."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        face_threads: int,
        max_pixels: int,
        max_queued_images: int,
        max_batch_faces: int,
        support_cache_bytes: int,
    ) -> None:
        self.checkpoint = checkpoint
        self._classifier = Classifier(checkpoint)
        self._faces = FacePool(threads=face_threads, max_queued=max_queued_images, max_pixels=max_pixels)
        self._device: Batcher[_Job, _Outcome] = Batcher(
            self._run_batch,
            work_of=_work,
            max_batch_work=max_batch_faces,
            max_queued_work=max(max_queued_images, max_batch_faces) * 4,
        )
        self._cache: collections.OrderedDict[SupportKey, SupportSet] = collections.OrderedDict()
        self._cache_bytes, self._max_cache_bytes = 0, support_cache_bytes

    @property
    def device(self) -> str:
        """What the network runs on, as torch names it."""
        return str(self._classifier.device)

    @property
    def alive(self) -> bool:
        return self._device.alive

    async def warm_up(self) -> None:
        """Load and run every stage once."""
        await self._faces.warm_up()
        await self._device.submit(_Encode(np.zeros((1, 3, 64, 64, 3), dtype=np.uint8)))

    def close(self) -> None:
        self._faces.close()
        self._device.close()

    async def encode_support(self, uploads: Sequence[Upload]) -> list[SupportOutcome]:
        """For each upload its one face, encoded, or why it cannot be an example.

        Raises: QueueFull.
        """
        self._faces.require_room(len(uploads))
        faces = await asyncio.gather(
            *(_or_error(self._faces.find_single_face(upload.data)) for upload in uploads)
        )
        found = [face for face in faces if isinstance(face, Face)]
        if not found:
            return [face for face in faces if isinstance(face, CsrnError)]
        encoded = await self._device.submit(_Encode(np.stack([face.patches for face in found])))
        assert isinstance(encoded, np.ndarray)
        features = iter(encoded)
        return [
            SupportFace(box_px=face.box_px, features=next(features)) if isinstance(face, Face) else face
            for face in faces
        ]

    async def support_set(
        self,
        key: SupportKey,
        load: Callable[[], Awaitable[tuple[SupportKey, Sequence[Example]]]],
    ) -> SupportSet:
        """The support set of a session at a revision, from the cache or made of what `load` gives.

        `load` may find a newer revision than was asked for and says so in the key it returns.
        """
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        key, examples = await load()
        support = await self.build_support_set(examples)
        self._remember(key, support)
        return support

    async def build_support_set(self, examples: Sequence[Example]) -> SupportSet:
        """A support set of at least one example. Raises: QueueFull."""
        support = await self._device.submit(_Prepare(examples))
        assert isinstance(support, SupportSet)
        return support

    async def classify(
        self,
        uploads: Sequence[Upload],
        support: SupportSet,
        *,
        all_faces: bool,
        timings: Timings,
    ) -> list[QueryOutcome]:
        """For each upload its scored faces, largest first, or why it cannot be read.

        Raises: QueueFull.
        """
        self._faces.require_room(len(uploads))
        found = await asyncio.gather(
            *(_or_error(self._faces.find_faces(upload.data, all_faces=all_faces)) for upload in uploads)
        )
        timings.mark("faces")
        patches = [face.patches for faces in found if isinstance(faces, list) for face in faces]
        scores: list[list[ClassScore]] = []
        if patches:
            scored = await self._device.submit(_Score(np.stack(patches), support))
            assert isinstance(scored, list)
            scores = scored
        timings.mark("network")
        rows = iter(scores)
        return [
            [ScoredFace(box_px=face.box_px, scores=next(rows)) for face in faces]
            if isinstance(faces, list)
            else faces
            for faces in found
        ]

    def _run_batch(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        """On the device thread: encode all patches of the batch together, then finish each job."""
        stacks = [job.patches for job in jobs if not isinstance(job, _Prepare)]
        encoded: Iterator[Features] = iter(())
        if stacks:
            features = self._classifier.encode(np.concatenate(stacks))
            ends = np.cumsum([len(stack) for stack in stacks])[:-1]
            encoded = iter(np.split(features, ends))
        outcomes: list[_Outcome] = []
        for job in jobs:
            match job:
                case _Encode():
                    outcomes.append(next(encoded))
                case _Score():
                    outcomes.append(self._classifier.score(job.support, next(encoded)))
                case _Prepare():
                    outcomes.append(self._classifier.build_support_set(job.examples))
        return outcomes

    def _remember(self, key: SupportKey, support: SupportSet) -> None:
        """Keep the support sets used last, within the budget; of a session only the one revision."""
        for stale in [known for known in self._cache if known[0] == key[0]]:
            self._cache_bytes -= self._cache.pop(stale).size_bytes
        if support.size_bytes <= self._max_cache_bytes:
            self._cache[key] = support
            self._cache_bytes += support.size_bytes
        while self._cache_bytes > self._max_cache_bytes:
            self._cache_bytes -= self._cache.popitem(last=False)[1].size_bytes


def _work(job: _Job) -> int:
    return len(job.examples) if isinstance(job, _Prepare) else len(job.patches)


async def _or_error(found: Awaitable[T]) -> T | CsrnError:
    try:
        return await found
    except CsrnError as error:
        return error
