"""The way of an image: bytes to faces on the pool, patches to scores on the device thread."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch

from app.inference.device import held_memory_bytes
from app.inference.errors import DeviceFull
from app.inference.faces import FacePool, Found
from app.inference.observer import Observer, Stage
from app.inference.work_queue import Lane, WorkQueue
from model.checkpoint import Checkpoint
from model.classifier import Classifier, ClassScore
from model.errors import CheckpointInvalid, CsrnError
from model.leave_one_out import LeftOut, leave_one_out
from model.support_set import Example, Features, SupportSet
from model.vision.faces import Box, Face
from model.vision.landmarks import LANDMARK_COUNT, Landmarks, Points
from model.vision.patches import PARTS, Patches


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
    """(numbers,) float16"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredFace:
    """One face of a query with its class scores, best first."""

    box_px: Box
    scores: list[ClassScore]
    landmarks: Landmarks


SupportOutcome = SupportFace | CsrnError
QueryOutcome = list[ScoredFace] | CsrnError
PAIRS_AT_ONCE = 2048
"""Pairs that one job scores, so that none keeps the device for long"""
PAIRS_PER_FACE = 32
"""So many cost about as much as encoding a face"""


class Timings:
    """Milliseconds spent per stage of one request."""

    def __init__(self, observer: Observer = Observer()) -> None:
        self._observer = observer
        self._start = self._last = time.perf_counter()
        self.stages_ms: dict[str, float] = {}

    def mark(self, stage: Stage) -> None:
        """Everything since the last mark was this stage."""
        now = time.perf_counter()
        self.stages_ms[stage] = round((now - self._last) * 1000, 2)
        self.stages_ms["total"] = round((now - self._start) * 1000, 2)
        self._observer.stage_ended(stage, now - self._last)
        self._last = now


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceBatch:
    """What the network sees of some faces."""

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
        """One or more faces."""
        return cls(
            patches=np.stack([face.patches for face in faces]),
            points=np.stack([face.landmarks.points_px for face in faces]),
        )

    @classmethod
    def joined(cls, batches: Sequence[FaceBatch]) -> FaceBatch:
        """The faces of one or more batches."""
        return cls(
            patches=np.concatenate([batch.patches for batch in batches]),
            points=np.concatenate([batch.points for batch in batches]),
        )


@dataclasses.dataclass(frozen=True)
class _Encode:
    faces: FaceBatch


@dataclasses.dataclass(frozen=True)
class _Prepare:
    examples: Sequence[Example]


@dataclasses.dataclass(frozen=True)
class _Score:
    faces: FaceBatch
    support: SupportSet


@dataclasses.dataclass(frozen=True)
class _LeaveOut:
    support: SupportSet
    of_class: Sequence[Example]
    left_out: range


_Job = _Encode | _Prepare | _Score | _LeaveOut
_Outcome = Features | SupportSet | list[list[ClassScore]] | list[LeftOut]


class Engine:
    """Encodes support images and classifies queries. Knows no sessions."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        encoder_dtype: torch.dtype,
        face_threads: int,
        max_pixels: int,
        max_queued_images: int,
        max_batch_faces: int,
        stall_s: float,
        observer: Observer = Observer(),
    ) -> None:
        self.checkpoint, self.observer = checkpoint, observer
        self._classifier = Classifier(checkpoint, encoder_dtype=encoder_dtype)
        self.faces = FacePool(
            checkpoint.config.layout,
            threads=face_threads,
            max_queued=max_queued_images,
            max_pixels=max_pixels,
            stall_s=stall_s,
            observer=observer,
        )
        self._device: WorkQueue[_Job, _Outcome] = WorkQueue(
            self._run_batch,
            name="device",
            work_of=_work,
            max_batch_work=max_batch_faces,
            max_queued_work=max(max_queued_images, max_batch_faces) * 4,
            stall_s=stall_s,
            is_permanent=lambda error: isinstance(error, torch.AcceleratorError),
            observer=observer,
        )

    @property
    def device(self) -> str:
        """What the network runs on, as torch names it."""
        return str(self._classifier.device)

    @property
    def numbers_per_face(self) -> int:
        """Length of an example's features."""
        return self.checkpoint.network.numbers_per_face

    @property
    def fault(self) -> str | None:
        """Why it cannot serve until the process starts anew, if it cannot."""
        return self._device.fault or self.faces.fault

    def abandon(self) -> None:
        """Fail all work that waits or has begun; the process is about to end."""
        self.faces.abandon()
        self._device.abandon()

    @property
    def queued_work(self) -> dict[str, int]:
        """What waits in each queue: images for faces, faces to encode for the device."""
        return {"faces": self.faces.queued, "device": self._device.queued_work}

    @property
    def device_memory_bytes(self) -> int:
        """Of a GPU's memory, what this process holds; 0 without one."""
        return held_memory_bytes(self.device)

    async def warm_up(self) -> None:
        """Load and run every stage once. Raises: CheckpointInvalid where the weights give no numbers."""
        await self.faces.warm_up()
        size_px = self.checkpoint.config.layout.size_px
        black = FaceBatch(
            patches=np.zeros((1, len(PARTS), size_px, size_px, 3), dtype=np.uint8),
            points=np.zeros((1, LANDMARK_COUNT, 2), dtype=np.float32),
        )
        encoded = await self._device.submit(_Encode(black))
        if not np.isfinite(cast(Features, encoded)).all():
            raise CheckpointInvalid("the weights give values that are not finite")

    def close(self) -> None:
        self.faces.close()
        self._device.close()

    async def encode_support(self, uploads: Sequence[Upload], *, lane: Lane = None) -> list[SupportOutcome]:
        """For each upload its one face, encoded, or why it cannot be an example.

        Args: lane, whose work it is. Raises: QueueFull.
        """
        timings = Timings(self.observer)
        found = await self.faces.find_single_faces([upload.data for upload in uploads], lane=lane)
        timings.mark("faces")
        single = [face for faces in found if isinstance(faces, list) for face in faces]
        if not single:
            return [error for error in found if isinstance(error, CsrnError)]
        encoded = await self._device.submit(_Encode(FaceBatch.of(single)), lane=lane)
        timings.mark("network")
        features = iter(cast(Features, encoded))
        return [
            SupportFace(box_px=faces[0].box_px, features=next(features)) if isinstance(faces, list) else faces
            for faces in found
        ]

    async def build_support_set(self, examples: Sequence[Example]) -> SupportSet:
        """A support set of at least one example. Raises: QueueFull."""
        return cast(SupportSet, await self._device.submit(_Prepare(examples)))

    async def leave_one_out(self, support: SupportSet, examples: Sequence[Example]) -> list[LeftOut]:
        """How each example is told by the others; empty for a class alone, or of a single example.

        Args: support, made of `examples`. Raises: QueueFull.
        """
        if len(support.labels) < 2:
            return []
        at_once = max(PAIRS_AT_ONCE // len(examples), 1)
        left_out: list[LeftOut] = []
        for label in support.labels:
            of_class = [example for example in examples if example.label == label]
            if len(of_class) < 2:
                continue
            for start in range(0, len(of_class), at_once):
                some = range(start, min(start + at_once, len(of_class)))
                scored = await self._device.submit(_LeaveOut(support, of_class, some))
                left_out += cast(list[LeftOut], scored)
        return left_out

    async def classify(
        self,
        uploads: Sequence[Upload],
        support: SupportSet,
        *,
        all_faces: bool,
        timings: Timings,
        lane: Lane = None,
    ) -> list[QueryOutcome]:
        """For each upload its scored faces, largest first, or why it cannot be read.

        Args: lane, whose work it is. Raises: QueueFull.
        """
        images = [upload.data for upload in uploads]
        found = await self.faces.find_faces(images, all_faces=all_faces, lane=lane)
        timings.mark("faces")
        outcomes = await self.score_faces(found, support, lane=lane)
        timings.mark("network")
        return outcomes

    async def score_faces(
        self, found: Sequence[Found], support: SupportSet, *, lane: Lane = None
    ) -> list[QueryOutcome]:
        """Score the faces that were found in each of some images. Raises: QueueFull."""
        queries = [face for faces in found if isinstance(faces, list) for face in faces]
        at_once = max(PAIRS_AT_ONCE // len(support.example_ids), 1)
        jobs: list[_Job] = [
            _Score(FaceBatch.of(queries[start : start + at_once]), support)
            for start in range(0, len(queries), at_once)
        ]
        scored = cast(list[list[list[ClassScore]]], await self._device.submit_all(jobs, lane=lane))
        rows = iter(scores for of_job in scored for scores in of_job)
        return [
            [scored_face(face, next(rows)) for face in faces] if isinstance(faces, list) else faces
            for faces in found
        ]

    def _run_batch(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        """On the device thread: encode all faces of the batch together, score all queries together.

        Raises: DeviceFull.
        """
        try:
            return self._run(jobs)
        except (torch.OutOfMemoryError, MemoryError) as error:
            # What the failed batch held goes back, before its jobs are tried one by one.
            traceback.clear_frames(error.__traceback__)
            torch.cuda.empty_cache()
            raise DeviceFull from error

    def _run(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        batches = [job.faces for job in jobs if isinstance(job, _Encode | _Score)]
        encoded: Iterator[Features] = iter(())
        if batches:
            ends = np.cumsum([len(batch) for batch in batches])[:-1]
            faces = FaceBatch.joined(batches)
            encoded = iter(np.split(self._classifier.encode(faces.patches, faces.points), ends))
        features = [next(encoded) if isinstance(job, _Encode | _Score) else None for job in jobs]
        asked = [
            (job.support, found)
            for job, found in zip(jobs, features, strict=True)
            if isinstance(job, _Score) and found is not None
        ]
        scores = iter(self._classifier.score_all(asked) if asked else [])
        return [self._outcome(job, found, scores) for job, found in zip(jobs, features, strict=True)]

    def _outcome(
        self, job: _Job, features: Features | None, scores: Iterator[list[list[ClassScore]]]
    ) -> _Outcome:
        match job:
            case _Encode():
                assert features is not None
                return features
            case _Score():
                return next(scores)
            case _Prepare():
                return self._classifier.build_support_set(job.examples)
            case _LeaveOut():
                return leave_one_out(self._classifier, job.support, job.of_class, job.left_out)


def scored_face(face: Face, scores: list[ClassScore]) -> ScoredFace:
    return ScoredFace(box_px=face.box_px, scores=scores, landmarks=face.landmarks)


def _work(job: _Job) -> int:
    """In faces encoded, by which batches and queue are measured."""
    match job:
        case _Prepare():
            return len(job.examples)
        case _LeaveOut():
            return 1 + len(job.left_out) * len(job.support.example_ids) // PAIRS_PER_FACE
        case _Score():
            return len(job.faces) * (1 + len(job.support.example_ids) // PAIRS_PER_FACE)
        case _Encode():
            return len(job.faces)
