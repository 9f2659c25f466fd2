"""Classify image files, by a running service or without one: the same answers either way."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from app.settings import Settings
from csrn_client import Client, ServiceProblem
from csrn_client.schemas import ItemError, Result
from model.errors import CsrnError, NoFace
from model.vision.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from model.support_set import SupportSet

T = TypeVar("T")
AT_ONCE, BYTES_AT_ONCE = 16, 32 * 2**20
"""Files of one request, and between two steps of a progress bar"""
SESSION_TTL_S = 3600.0

LabelledFile = tuple[str, Path]
OnRejected = Callable[[Path, str], None]
"""Told of each support file that is no example, and why"""


class NoSuchFiles(CsrnError):
    """A path or pattern that names no image."""


def find_images(paths: Sequence[str]) -> list[Path]:
    """Image files, in order: files as named, all images in folders, and what patterns match.

    Raises: NoSuchFiles for one that names none.
    """
    found: list[Path] = []
    for path in paths:
        named = Path(path)
        if named.is_dir():
            images = sorted(file for file in named.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        elif named.exists():
            images = [named]
        else:
            images = sorted(Path(name) for name in glob.glob(path, recursive=True) if Path(name).is_file())
        if not images:
            raise NoSuchFiles(f"{path}: no such image")
        found += images
    return found


class FileClassifier(Protocol):
    """Taught a support set, answers for files."""

    labels: tuple[str, ...]

    def classify(self, files: Sequence[Path]) -> list[Result]:
        """One result a file, in order. Raises: CsrnError; ClientError; OSError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class LocalClassifier:
    """Runs the network in this process."""

    def __init__(
        self,
        settings: Settings,
        support: Sequence[LabelledFile],
        *,
        unknown_below: float | None,
        all_faces: bool,
        on_rejected: OnRejected,
    ) -> None:
        """Raises: CheckpointInvalid; NoFace where no support image is left."""
        # Torch takes seconds to import, which a client of a service need not pay.
        from app.main import create_engine

        self._engine = create_engine(settings)
        self._unknown_below, self._all_faces = unknown_below, all_faces
        try:
            self._support_set = asyncio.run(self._teach(support, on_rejected))
        except BaseException:
            self._engine.close()
            raise
        self.labels: tuple[str, ...] = self._support_set.labels

    def classify(self, files: Sequence[Path]) -> list[Result]:
        return asyncio.run(self._classify(files))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    async def _teach(self, support: Sequence[LabelledFile], on_rejected: OnRejected) -> SupportSet:
        from app.inference.engine import SupportFace, Upload
        from model.support_set import Example

        examples = []
        for some in in_steps(support, _path_of_labelled):
            uploads = [Upload(filename=str(file), data=file.read_bytes()) for _, file in some]
            for (label, file), outcome in zip(some, await self._engine.encode_support(uploads), strict=True):
                if isinstance(outcome, SupportFace):
                    examples.append(Example(example_id=str(file), label=label, features=outcome.features))
                else:
                    on_rejected(file, str(outcome))
        if not examples:
            raise NoFace("no support image shows one clear face")
        return await self._engine.build_support_set(examples)

    async def _classify(self, files: Sequence[Path]) -> list[Result]:
        from app.api.responses import results_response
        from app.inference.engine import Timings, Upload

        uploads = [Upload(filename=str(file), data=file.read_bytes()) for file in files]
        timings = Timings()
        outcomes = await self._engine.classify(
            uploads, self._support_set, all_faces=self._all_faces, timings=timings
        )
        own = self._unknown_below
        return results_response(
            uploads,
            outcomes,
            checkpoint=self._engine.checkpoint,
            unknown_below=self._support_set.unknown_below if own is None else own,
            timings_ms=timings.stages_ms,
        ).results


class RemoteClassifier:
    """Asks a running service, by a session of its own that it deletes in the end, or by one that is there."""

    def __init__(
        self,
        client: Client,
        support: Sequence[LabelledFile] | str,
        *,
        unknown_below: float | None,
        all_faces: bool,
        on_rejected: OnRejected,
    ) -> None:
        """support: labelled files, or the id of a session. Raises: NoFace; ClientError."""
        self._client, self._unknown_below, self._all_faces = client, unknown_below, all_faces
        self._own_session = not isinstance(support, str)
        if isinstance(support, str):
            self._session_id = support
        else:
            self._session_id = client.create_session(name="csrn classify", ttl_s=SESSION_TTL_S).id
        try:
            if not isinstance(support, str):
                self._teach(support, on_rejected)
            self.labels = tuple(entry.label for entry in client.get_session(self._session_id).classes)
            if not self.labels:
                raise NoFace("the session has no classes, or no support image shows one clear face")
        except BaseException:
            self.__exit__()
            raise

    def classify(self, files: Sequence[Path]) -> list[Result]:
        try:
            results = self._client.classify(
                self._session_id, files, unknown_below=self._unknown_below, all_faces=self._all_faces
            ).results
        except ServiceProblem as problem:
            if problem.code not in ("image_unreadable", "body_too_large"):
                raise
            if len(files) > 1:  # one of them, or all: each is asked about alone
                return [result for file in files for result in self.classify([file])]
            error = ItemError(code=problem.code, detail=problem.problem.detail)
            results = [Result(index=0, filename=None, faces=[], error=error)]
        return [
            result.model_copy(update={"filename": str(file)})
            for result, file in zip(results, files, strict=True)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own_session:
            self._client.delete_session(self._session_id)
        self._client.close()

    def _teach(self, support: Sequence[LabelledFile], on_rejected: OnRejected) -> None:
        for some in in_steps(support, _path_of_labelled):
            try:
                rejected = self._client.add_support(self._session_id, some).rejected
            except ServiceProblem as problem:
                if problem.problem.rejected is None:
                    raise
                rejected = problem.problem.rejected
            for image in rejected:
                on_rejected(some[image.index][1], image.detail)


def in_steps(files: Sequence[T], path_of: Callable[[T], Path]) -> Iterator[list[T]]:
    """The same in runs of up to AT_ONCE files and, if more than one, BYTES_AT_ONCE bytes."""
    run: list[T] = []
    size = 0
    for file in files:
        bytes_of_file = path_of(file).stat().st_size
        if run and (len(run) == AT_ONCE or size + bytes_of_file > BYTES_AT_ONCE):
            yield run
            run, size = [], 0
        run.append(file)
        size += bytes_of_file
    if run:
        yield run


def _path_of_labelled(file: LabelledFile) -> Path:
    return file[1]
