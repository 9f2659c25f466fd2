"""Sends more images than one request takes in several requests, and merges the answers."""

from __future__ import annotations

import abc
import collections
import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Self, TypeVar

import pydantic

from csrn_client.errors import ClientError, InvalidImage, ServiceProblem
from csrn_client.images import Upload
from csrn_client.schemas import Added, AddedExample, ItemError, Problem, RejectedImage, Result, Results

MAX_IMAGES = 64
"""The most images of one request that a service accepts by default"""
MAX_BYTES = 60 * 2**20
"""The most bytes of images in one request. A service accepts a body of 64 MiB by default"""
TOO_LARGE = 413

NONE_ADDED = "None of the images can be an example"

AnswerT = TypeVar("AnswerT", bound=pydantic.BaseModel)
AddedT = TypeVar("AddedT", bound=Added)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """The images of one request."""

    start: int
    """The index of the first image among all images of the call"""
    uploads: Sequence[Upload]

    @property
    def indices(self) -> slice:
        return slice(self.start, self.start + len(self.uploads))

    def halves(self) -> list[Batch]:
        middle = len(self.uploads) // 2
        return [
            Batch(start=self.start, uploads=self.uploads[:middle]),
            Batch(start=self.start + middle, uploads=self.uploads[middle:]),
        ]


def batches(
    uploads: Iterable[Upload], *, max_images: int = MAX_IMAGES, max_bytes: int = MAX_BYTES
) -> Iterator[Batch]:
    """Consecutive images in batches, one for each request. A larger image has a batch of its own.

    Raises: InvalidImage if there is no image.
    """
    start, waiting, size_bytes = 0, list[Upload](), 0
    for upload in uploads:
        size_bytes += len(upload.content)
        if waiting and (len(waiting) == max_images or size_bytes > max_bytes):
            yield Batch(start=start, uploads=waiting)
            start, waiting, size_bytes = start + len(waiting), [], len(upload.content)
        waiting.append(upload)
    if not waiting:
        raise InvalidImage("no image was given")
    yield Batch(start=start, uploads=waiting)


def one_batch(uploads: Iterable[Upload]) -> Batch:
    """All images in one batch, whatever their number. Raises: InvalidImage if there is no image."""
    (batch,) = batches(uploads, max_images=sys.maxsize, max_bytes=sys.maxsize)
    return batch


class SplitCall(abc.ABC, Generic[AnswerT]):
    """The requests of a call. A batch that the service refuses as too large is sent again in two halves."""

    def __init__(self, batches: Iterable[Batch], *, divisible: bool = True) -> None:
        self._batches, self._divisible = batches, divisible
        self._waiting: list[Batch] = []
        self._refusal: ServiceProblem | None = None
        """The first problem that concerns all images of a request"""

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._waiting = [batch]
            while self._waiting:
                yield self._waiting.pop(0)

    def handled(self, batch: Batch, error: ClientError) -> bool:
        """Whether the call can continue although the request with this batch failed.

        If it cannot, the error is given what the requests before it achieved.
        """
        if isinstance(error, ServiceProblem):
            too_large, several = error.problem.status == TOO_LARGE, len(batch.uploads) > 1
            if too_large and several and self._divisible:
                self._waiting = [*batch.halves(), *self._waiting]
                return True
            if self._can_list(error.problem) or (too_large and not several):
                self._list(error.problem, batch)
                self._refusal = self._refusal or error
                return True
        self._attach_to(error)
        return False

    @abc.abstractmethod
    def answered(self, batch: Batch, answer: AnswerT) -> None:
        """Take the answer to the request with this batch."""

    @abc.abstractmethod
    def merged(self) -> AnswerT:
        """The answer to the call. Raises: ServiceProblem if the service refused every image."""

    @abc.abstractmethod
    def _can_list(self, problem: Problem) -> bool:
        """Whether the problem is one of the images, so that other images can still succeed."""

    @abc.abstractmethod
    def _list(self, problem: Problem, batch: Batch) -> None:
        """Add the reason to the answer for each image of the batch."""

    @abc.abstractmethod
    def _attach_to(self, error: ClientError) -> None:
        """Give an error what the requests so far achieved."""


class Additions(SplitCall[AddedT]):
    """The requests that add examples."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        super().__init__(batches)
        self._answer: AddedT | None = None
        self._added: list[AddedExample] = []
        self._rejected: list[RejectedImage] = []

    def answered(self, batch: Batch, answer: AddedT) -> None:
        self._answer = answer
        self._added += [_shifted(example, batch) for example in answer.added]
        self._rejected += [_shifted(image, batch) for image in answer.rejected]

    def merged(self) -> AddedT:
        """All that was added and rejected, and the session after the last request. Raises: ServiceProblem."""
        if self._answer is not None:
            return self._answer.model_copy(update={"added": self._added, "rejected": self._rejected})
        assert self._refusal is not None
        merged: dict[str, object] = {"rejected": self._rejected}
        if len({image.code for image in self._rejected}) > 1:
            merged |= {"code": "no_example_added", "title": NONE_ADDED, "detail": "see rejected"}
        raise ServiceProblem(self._refusal.problem.model_copy(update=merged))

    def _can_list(self, problem: Problem) -> bool:
        return problem.rejected is not None

    def _list(self, problem: Problem, batch: Batch) -> None:
        if problem.rejected is not None:
            self._rejected += [_shifted(image, batch) for image in problem.rejected]
            return
        for index, upload in enumerate(batch.uploads, batch.start):
            self._rejected.append(
                RejectedImage(index=index, filename=upload.name, code=problem.code, detail=problem.detail)
            )

    def _attach_to(self, error: ClientError) -> None:
        error.added = self.merged() if self._answer is not None else None


class Classification(SplitCall[Results]):
    """The requests that classify images."""

    def __init__(self, batches: Iterable[Batch], *, divisible: bool = True) -> None:
        super().__init__(batches, divisible=divisible)
        self._answers: list[Results] = []
        self._results: list[Result] = []

    @classmethod
    def beside(cls, sent: Sequence[Upload], uploads: Iterable[Upload]) -> Self:
        """The requests that hold the images `sent` too. If these leave no room, there is one request."""
        max_images = MAX_IMAGES - len(sent)
        max_bytes = MAX_BYTES - sum(len(upload.content) for upload in sent)
        if min(max_images, max_bytes) < 1:
            return cls([one_batch(uploads)], divisible=False)
        return cls(batches(uploads, max_images=max_images, max_bytes=max_bytes))

    def answered(self, batch: Batch, answer: Results) -> None:
        self._answers.append(answer)
        self._results += [_shifted(result, batch) for result in answer.results]

    def merged(self) -> Results:
        """All results, the threshold of the last answer and the sums of the times. Raises: ServiceProblem."""
        if not self._answers:
            assert self._refusal is not None
            raise self._refusal
        timings_ms: collections.Counter[str] = collections.Counter()
        for answer in self._answers:
            timings_ms.update(answer.timings_ms)
        merged = {"results": self._results, "timings_ms": dict(timings_ms)}
        return self._answers[-1].model_copy(update=merged)

    def _can_list(self, problem: Problem) -> bool:
        return problem.code == "image_unreadable"

    def _list(self, problem: Problem, batch: Batch) -> None:
        detail = problem.detail if len(batch.uploads) == 1 else problem.title
        error = ItemError(code=problem.code, detail=detail)
        self._results += [
            Result(index=index, filename=upload.name, faces=[], error=error)
            for index, upload in enumerate(batch.uploads, batch.start)
        ]

    def _attach_to(self, error: ClientError) -> None:
        error.results = self.merged() if self._answers else None


ItemT = TypeVar("ItemT", AddedExample, RejectedImage, Result)


def _shifted(item: ItemT, batch: Batch) -> ItemT:
    """The item with its index among all images of the call."""
    return item.model_copy(update={"index": batch.start + item.index})
