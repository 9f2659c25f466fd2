"""Runs the network on the device thread, in batches of the faces of many requests."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from app.inference.errors import DeviceFull, DeviceLost
from app.inference.fairness import Lane
from app.inference.kept_support_sets import KeptSupportSets
from app.inference.observer import Observer
from app.inference.work_queue import WorkQueue
from app.settings import Settings
from model.classifier import Classifier, QueryScores
from model.leave_one_out import LeftOut, leave_one_out
from model.support_set import Example, Features, SupportSet
from model.vision.faces import Box, Face
from model.vision.landmarks import LANDMARK_COUNT, Landmarks, Points
from model.vision.patches import PART_COUNT, Patches

T = TypeVar("T")
logger = logging.getLogger("csrn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Limits for jobs and batches, so that none occupies the device for long."""

    batch_faces: int
    """The most faces in one batch, unless CSRN_MAX_BATCH_FACES says otherwise"""
    job_pairs: int
    """The most (example, query) pairs in one job"""
    pairs_per_face: int
    """Pairs whose scoring takes as long as encoding one face. The size of a job is counted in faces."""


ON_CPU = Sizes(batch_faces=64, job_pairs=2048, pairs_per_face=32)
ON_GPU = Sizes(batch_faces=256, job_pairs=65_536, pairs_per_face=128)
"""Estimated from operations and bytes, not measured: encoding a face takes 0.17 GFLOP, and three relation
scores read and write 170 KB"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceBatch:
    """The network's input for some faces."""

    patches: Patches
    """(faces, 3 parts, size, size, 3) uint8"""
    points: Points
    """(faces, 468, 2) float32"""

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, chosen: slice) -> FaceBatch:
        return FaceBatch(patches=self.patches[chosen], points=self.points[chosen])

    @classmethod
    def of(cls, faces: Sequence[Face]) -> FaceBatch:
        """The input for one or more faces."""
        return cls(
            patches=np.stack([face.patches for face in faces]),
            points=np.stack([face.landmarks.points_px for face in faces]),
        )


@contextlib.contextmanager
def _device_errors() -> Iterator[None]:
    """Translate the errors of torch. Raises: DeviceFull; DeviceLost."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            # The frames hold the tensors of the failed batch: free them before anything is computed again.
            traceback.clear_frames(error.__traceback__)
            raise DeviceFull("the device has no memory left: try again, or send fewer images") from error
        # The libraries of CUDA raise plain RuntimeErrors.
        if isinstance(error, torch.AcceleratorError) or str(error).startswith(("CUDA error", "cuDNN error")):
            raise DeviceLost from error
        raise


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory is exhausted, which CUDA's driver and libraries show in a RuntimeError's text only."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return str(error).startswith("CUDA error") and any(
        words in str(error) for words in ("out of memory", "ALLOC_FAILED")
    )


class Network:
    """Runs a classifier on the device thread. Its methods raise QueueFull, DeviceFull and WorkLost."""

    def __init__(
        self,
        classifier: Classifier,
        settings: Settings,
        *,
        kept: KeptSupportSets,
        observer: Observer = Observer(),
    ) -> None:
        """kept: the support sets that are dropped when the device has no memory left."""
        self.classifier, self._kept = classifier, kept
        self.sizes = ON_CPU if classifier.device.type == "cpu" else ON_GPU
        self._max_batch = settings.max_batch_faces or self.sizes.batch_faces
        self.queue = WorkQueue(
            name="device",
            max_batch=self._max_batch,
            # An image can show several faces.
            max_queued=max(settings.max_queued_images, self._max_batch) * 4,
            stall_s=settings.stall_s,
            observer=observer,
        )

    async def warm_up(self) -> Features:
        """Compute everything that serving computes, so that no client waits for what the first use prepares.

        A GPU loads each kernel when it is first used, and the size of a batch decides which kernels it uses.
        Therefore batches of 1, 2, 4 and so on up to the largest are computed.

        Returns: the features (1, numbers) of a black face.
        """
        size_px = self.classifier.checkpoint.config.layout.size_px
        largest = 2 if self.sizes == ON_CPU else self._max_batch
        face = Face(
            box_px=Box(x_min=0, y_min=0, x_max=0, y_max=0),
            landmarks=Landmarks(
                points_px=np.zeros((LANDMARK_COUNT, 2), dtype=np.float32),
                depths_px=np.zeros(LANDMARK_COUNT, dtype=np.float32),
                found_after_padding=False,
            ),
            patches=np.zeros((PART_COUNT, size_px, size_px, 3), dtype=np.uint8),
        )
        black = FaceBatch.of([face] * largest)
        features = await self.encode(black[:1])
        examples = [Example(example_id=str(n), label=str(n // 2), features=features[0]) for n in range(4)]
        support = await self.build_support_set(examples)
        await self.leave_one_out(support, examples)
        for size in sorted({min(2**power, largest) for power in range(largest.bit_length() + 1)}):
            await self.encode(black[:size])
            await self.queue.submit(self._score, [(support, [face])] * size)
        return features

    async def encode(self, faces: FaceBatch, *, lane: Lane = Lane()) -> Features:
        """The features of the faces, (faces, numbers)."""
        (features,) = await self.queue.submit(self._encode, [faces], size_of=len, lane=lane)
        return features

    async def score(
        self, faces: Sequence[Face], support: SupportSet, *, lane: Lane = Lane()
    ) -> list[QueryScores]:
        """The class scores of each face."""
        examples = len(support.example_ids)
        step = max(self.sizes.job_pairs // examples, 1)
        faces_per_query = 1 + examples // self.sizes.pairs_per_face
        jobs = [(support, faces[start : start + step]) for start in range(0, len(faces), step)]
        scored = await self.queue.submit(
            self._score, jobs, size_of=lambda job: len(job[1]) * faces_per_query, lane=lane
        )
        return [scores for of_job in scored for scores in of_job]

    async def build_support_set(self, examples: Sequence[Example], *, lane: Lane = Lane()) -> SupportSet:
        """The support set of one or more examples."""
        build = functools.partial(self.classifier.build_support_set, examples)
        return await self._call(build, size=len(examples), lane=lane)

    async def leave_one_out(
        self, support: SupportSet, examples: Sequence[Example], *, lane: Lane = Lane()
    ) -> list[LeftOut]:
        """Classify each example by the others; skip a class that has one example or no rival.

        Args: support, built from `examples`.
        """
        step = max(self.sizes.job_pairs // len(examples), 1)
        left_out: list[LeftOut] = []
        for label in support.labels:
            of_class = [example for example in examples if example.label == label]
            if len(of_class) == 1 or len(support.labels) == 1:
                continue
            for start in range(0, len(of_class), step):
                some = range(start, min(start + step, len(of_class)))
                job = functools.partial(leave_one_out, self.classifier, support, of_class, some)
                size = 1 + len(some) * len(examples) // self.sizes.pairs_per_face
                left_out += await self._call(job, size=size, lane=lane)
        return left_out

    async def _call(self, job: Callable[[], T], *, size: int, lane: Lane) -> T:
        """Run a job that cannot be computed together with others."""
        (outcome,) = await self.queue.submit(self._call_all, [job], size_of=lambda _: size, lane=lane)
        return outcome

    def _encode(self, batches: Sequence[FaceBatch]) -> list[Features]:
        patches = np.concatenate([batch.patches for batch in batches])
        points = np.concatenate([batch.points for batch in batches])
        features = self._compute(lambda: self.classifier.encode(patches, points))
        return np.split(features, np.cumsum([len(batch) for batch in batches])[:-1])

    def _score(self, jobs: Sequence[tuple[SupportSet, Sequence[Face]]]) -> list[list[QueryScores]]:
        # Copied on this thread and not before: the event loop does not wait, and waiting jobs have no copies.
        stacked = [(support, FaceBatch.of(faces)) for support, faces in jobs]
        requests = [(support, faces.patches, faces.points) for support, faces in stacked]
        return self._compute(lambda: self.classifier.classify(requests))

    def _call_all(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        return self._compute(lambda: [job() for job in jobs])

    def _compute(self, work: Callable[[], T]) -> T:
        """Do the work. If the device has no memory left, drop the kept support sets and do it once more."""
        try:
            with _device_errors():
                return work()
        except DeviceFull:
            dropped = len(self._kept)
        # Not in the except clause, because the error there keeps the memory of the failed work in use.
        logger.warning("the device has no memory left: dropping %d support sets, then trying again", dropped)
        self._kept.clear()
        with contextlib.suppress(torch.AcceleratorError):
            torch.cuda.empty_cache()
        with _device_errors():
            return work()
