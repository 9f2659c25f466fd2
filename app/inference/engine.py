"""From image bytes to class scores: faces first, then the network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import torch

from app.inference.errors import TooManyFaces
from app.inference.faces import FacePool, Found
from app.inference.fairness import Lane
from app.inference.kept_support_sets import KeptSupportSets
from app.inference.network import FaceBatch, Network
from app.inference.observer import Observer, Stage
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.classifier import Classifier, QueryScores
from model.errors import CheckpointInvalid, CsrnError
from model.support_set import Features, SupportSet
from model.vision.faces import Face

MAX_FACES = 512
"""The most faces that a request with all_faces is answered for: with 64 classes, about 10 MiB of JSON"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upload:
    """One image as a client sent it."""

    filename: str | None
    data: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportFace:
    """The face of a support image with its features."""

    face: Face
    features: Features
    """(numbers,) float16"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredFace:
    """A face of a query image with its class scores."""

    face: Face
    scores: QueryScores | None
    """None for a session without classes"""


QueryOutcome = list[ScoredFace] | CsrnError


class Timings:
    """Milliseconds spent per stage of one request."""

    def __init__(self, observer: Observer = Observer()) -> None:
        self._observer = observer
        self._start = self._last = time.perf_counter()
        self.stages_ms: dict[str, float] = {}

    def mark(self, stage: Stage) -> None:
        """Count the time since the last mark as this stage."""
        now = time.perf_counter()
        self.stages_ms[stage] = round((now - self._last) * 1000, 2)
        self.stages_ms["total"] = round((now - self._start) * 1000, 2)
        self._observer.stage_ended(stage, now - self._last)
        self._last = now


class Engine:
    """Encodes support images and classifies queries. It does not know sessions."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        *,
        encoder_dtype: torch.dtype,
        kept: KeptSupportSets,
        observer: Observer = Observer(),
    ) -> None:
        """kept: the support sets that are dropped when the device has no memory left."""
        self.checkpoint, self.observer = checkpoint, observer
        self.faces = FacePool(checkpoint.config.layout, settings, observer=observer)
        classifier = Classifier(checkpoint, encoder_dtype=encoder_dtype)
        self.network = Network(classifier, settings, kept=kept, observer=observer)

    @property
    def device(self) -> str:
        """The device that the network runs on, as torch names it."""
        return str(self.network.classifier.device)

    @property
    def fault(self) -> str | None:
        """Why no more work can be done until the process restarts, or None."""
        return self.network.queue.fault or self.faces.queue.fault

    def fail_all(self) -> None:
        """Fail all waiting or running work, because the process is about to end."""
        self.faces.queue.fail_all()
        self.network.queue.fail_all()

    @property
    def queued_work(self) -> dict[str, int]:
        """The work that waits in each queue: images for "faces", faces to encode for "device"."""
        return {"faces": self.faces.queue.queued, "device": self.network.queue.queued}

    @property
    def device_memory_bytes(self) -> int:
        """GPU memory that this process holds; 0 without a GPU."""
        return torch.cuda.memory_reserved(self.device) if self.device.startswith("cuda") else 0

    async def warm_up(self) -> None:
        """Compute everything that serving computes.

        Raises: CheckpointInvalid if the features are not finite.
        """
        await self.faces.warm_up()
        if not np.isfinite(await self.network.warm_up()).all():
            raise CheckpointInvalid("the weights give values that are not finite")

    def close(self) -> None:
        """Finish the queued work and end the threads."""
        self.faces.queue.close()
        self.network.queue.close()

    async def encode_support(
        self, uploads: Sequence[Upload], *, lane: Lane = Lane()
    ) -> list[SupportFace | CsrnError]:
        """For each upload its only face, encoded, or why it cannot be an example. Raises: QueueFull."""
        timings = Timings(self.observer)
        found = await self.faces.find_single_faces([upload.data for upload in uploads], lane=lane)
        timings.mark("faces")
        single = [face for faces in found if isinstance(faces, list) for face in faces]
        if not single:
            return [error for error in found if isinstance(error, CsrnError)]
        features = iter(await self.network.encode(FaceBatch.of(single), lane=lane))
        timings.mark("network")
        return [
            SupportFace(face=faces[0], features=next(features)) if isinstance(faces, list) else faces
            for faces in found
        ]

    async def classify(
        self,
        uploads: Sequence[Upload],
        support: SupportSet,
        *,
        all_faces: bool,
        timings: Timings,
        lane: Lane = Lane(),
    ) -> list[QueryOutcome]:
        """For each upload its scored faces, largest first, or why it cannot be read.

        Raises: TooManyFaces; QueueFull.
        """
        images = [upload.data for upload in uploads]
        found = await self.faces.find_faces(images, all_faces=all_faces, lane=lane)
        timings.mark("faces")
        count = sum(len(of_image) for of_image in found if isinstance(of_image, list))
        if all_faces and count > MAX_FACES:
            raise TooManyFaces(
                f"the images show {count} faces, and a request with all_faces is answered for at most "
                f"{MAX_FACES}: send fewer images in one request"
            )
        outcomes = await self.score_faces(found, support, lane=lane)
        timings.mark("network")
        return outcomes

    async def score_faces(
        self, found: Sequence[Found], support: SupportSet, *, lane: Lane = Lane()
    ) -> list[QueryOutcome]:
        """Score the faces of some images. Raises: QueueFull."""
        faces = [face for of_image in found if isinstance(of_image, list) for face in of_image]
        scores = iter(await self.network.score(faces, support, lane=lane))
        return [
            [ScoredFace(face=face, scores=next(scores)) for face in of_image]
            if isinstance(of_image, list)
            else of_image
            for of_image in found
        ]
