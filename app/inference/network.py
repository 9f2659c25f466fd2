"""Runs the network on the device thread, in batches of the faces of many requests."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from app.inference.errors import DeviceFull, DeviceLost
from app.inference.fairness import Lane
from app.inference.observer import Observer
from app.inference.work_queue import WorkQueue
from app.settings import Settings
from model.classifier import Classifier, QueryScores
from model.leave_one_out import LeftOut, leave_one_out
from model.support_set import Example, Features, SupportSet
from model.vision.faces import Face
from model.vision.landmarks import Points
from model.vision.patches import Patches

T = TypeVar("T")
MAX_JOB_PAIRS = 2048
"""The most (example, query) pairs in one job, so that no job keeps the device for long"""
PAIRS_PER_FACE = 32
"""Pairs whose scoring takes as long as encoding one face. The size of a job is counted in faces."""


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
    except (torch.OutOfMemoryError, MemoryError) as error:
        # The frames hold the tensors of the failed batch: free them before its jobs run one by one.
        traceback.clear_frames(error.__traceback__)
        with contextlib.suppress(torch.AcceleratorError):
            torch.cuda.empty_cache()
        raise DeviceFull("the device has no memory left: try again, or send fewer images") from error
    except RuntimeError as error:
        # The libraries of CUDA raise plain RuntimeErrors.
        if isinstance(error, torch.AcceleratorError) or str(error).startswith(("CUDA error", "cuDNN error")):
            raise DeviceLost from error
        raise


class Network:
    """Runs a classifier on the device thread. Its methods raise QueueFull, DeviceFull and WorkLost."""

    def __init__(
        self, classifier: Classifier, settings: Settings, *, observer: Observer = Observer()
    ) -> None:
        self.classifier = classifier
        self.queue = WorkQueue(
            name="device",
            max_batch=settings.max_batch_faces,
            # An image can show several faces.
            max_queued=max(settings.max_queued_images, settings.max_batch_faces) * 4,
            stall_s=settings.stall_s,
            observer=observer,
        )

    async def encode(self, faces: FaceBatch, *, lane: Lane = Lane()) -> Features:
        """The features of the faces, (faces, numbers)."""
        (features,) = await self.queue.submit(self._encode, [faces], size_of=len, lane=lane)
        return features

    async def score(
        self, faces: Sequence[Face], support: SupportSet, *, lane: Lane = Lane()
    ) -> list[QueryScores]:
        """The class scores of each face."""
        examples = len(support.example_ids)
        step = max(MAX_JOB_PAIRS // examples, 1)
        jobs = [(support, FaceBatch.of(faces[start : start + step])) for start in range(0, len(faces), step)]
        scored = await self.queue.submit(
            self._score, jobs, size_of=lambda job: len(job[1]) * (1 + examples // PAIRS_PER_FACE), lane=lane
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
        step = max(MAX_JOB_PAIRS // len(examples), 1)
        left_out: list[LeftOut] = []
        for label in support.labels:
            of_class = [example for example in examples if example.label == label]
            if len(of_class) == 1 or len(support.labels) == 1:
                continue
            for start in range(0, len(of_class), step):
                some = range(start, min(start + step, len(of_class)))
                job = functools.partial(leave_one_out, self.classifier, support, of_class, some)
                size = 1 + len(some) * len(examples) // PAIRS_PER_FACE
                left_out += await self._call(job, size=size, lane=lane)
        return left_out

    async def _call(self, job: Callable[[], T], *, size: int, lane: Lane) -> T:
        """Run a job that cannot be computed together with others."""
        (outcome,) = await self.queue.submit(_call_all, [job], size_of=lambda _: size, lane=lane)
        return outcome

    @_device_errors()
    def _encode(self, batches: Sequence[FaceBatch]) -> list[Features]:
        features = self.classifier.encode(
            np.concatenate([batch.patches for batch in batches]),
            np.concatenate([batch.points for batch in batches]),
        )
        return np.split(features, np.cumsum([len(batch) for batch in batches])[:-1])

    @_device_errors()
    def _score(self, jobs: Sequence[tuple[SupportSet, FaceBatch]]) -> list[list[QueryScores]]:
        features = self._encode([faces for _, faces in jobs])
        return self.classifier.score_all(
            [(support, found) for (support, _), found in zip(jobs, features, strict=True)]
        )


@_device_errors()
def _call_all(jobs: Sequence[Callable[[], T]]) -> list[T]:
    return [job() for job in jobs]
