"""Classify image files with a few examples, by a running service or by one inside this process."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from app.settings import Settings
from csrn_client import AsyncClient, ServiceProblem
from csrn_client.schemas import ItemError, Result
from model.errors import CsrnError, NoFace
from model.vision.images import IMAGE_SUFFIXES

MAX_FILES_PER_REQUEST, MAX_BYTES_PER_REQUEST = 16, 32 * 2**20
RETRIES = 2
SESSION_TTL_S = 24 * 3600.0
"""After this time a service deletes the session of a command that was killed."""
NO_LIMIT = 2**40
LIMITS = (
    "max_image_bytes",
    "max_body_bytes",
    "max_body_bytes_in_flight",
    "max_bytes_per_key",
    "max_classes",
    "max_examples",
)
"""Settings that protect a service from its clients"""

LabelledFile = tuple[str, Path]


class NoSuchFiles(CsrnError):
    """A path or pattern names no image."""


def find_images(paths: Sequence[str]) -> list[Path]:
    """Image files in order: named files, all images in named folders, and files that match patterns.

    Raises: NoSuchFiles for a path that names none.
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


def batches(files: Sequence[Path]) -> Iterator[slice]:
    """The files of each request: up to MAX_FILES_PER_REQUEST, and MAX_BYTES_PER_REQUEST if more than one."""
    start, size = 0, 0
    for end, file in enumerate(files):
        size_of_file = file.stat().st_size
        full = end - start == MAX_FILES_PER_REQUEST or size + size_of_file > MAX_BYTES_PER_REQUEST
        if full and end > start:
            yield slice(start, end)
            start, size = end, 0
        size += size_of_file
    if start < len(files):
        yield slice(start, len(files))


@contextlib.asynccontextmanager
async def connect(url: str | None, api_key: str | None) -> AsyncIterator[AsyncClient]:
    """A client of the service at the address, or of a service that runs inside this process.

    Raises: InvalidURL; CheckpointInvalid; DeviceMissing.
    """
    if url is not None:
        async with AsyncClient(url, api_key=api_key, retries=RETRIES) as client:
            yield client
        return
    # torch takes seconds to import, and a client of a running service does not need it.
    from app.main import create_app

    # The command prints the answers of the service, not its log.
    logging.getLogger("csrn").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/sessions.sqlite3"
        app = create_app(
            Settings(store=store, api_keys="", rate_limit="", **dict.fromkeys(LIMITS, NO_LIMIT))  # type: ignore[arg-type]
        )
        async with (
            app.router.lifespan_context(app),
            AsyncClient(transport=httpx.ASGITransport(app), retries=RETRIES) as client,
        ):
            yield client


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileClassifier:
    """Classifies files by a session of a service."""

    client: AsyncClient
    session_id: str
    labels: tuple[str, ...]
    files: Mapping[str, Path]
    """Example id to file, for the examples that were added from files"""
    unknown_below: float | None
    all_faces: bool

    async def results(self, files: Sequence[Path]) -> AsyncIterator[Result]:
        """The result of each file, in order. Raises: ClientError; OSError."""
        for chosen in batches(files):
            for index, result in enumerate(await self._classify(files[chosen]), chosen.start):
                result.index = index
                yield result

    async def _classify(self, files: Sequence[Path]) -> list[Result]:
        try:
            results = await self.client.classify(
                self.session_id, files, unknown_below=self.unknown_below, all_faces=self.all_faces
            )
        except ServiceProblem as problem:
            if problem.code not in ("image_unreadable", "body_too_large"):
                raise
            if len(files) > 1:  # The service refused all of them, perhaps because of one.
                return [result for file in files for result in await self._classify([file])]
            error = ItemError(code=problem.code, detail=problem.problem.detail)
            return [Result(index=0, filename=str(files[0]), faces=[], error=error)]
        for result, file in zip(results.results, files, strict=True):
            result.filename = str(file)
            for score in (score for face in result.faces for score in face.scores):
                named = self.files.get(score.nearest_example_id, score.nearest_example_id)
                score.nearest_example_id = str(named)
        return results.results


@contextlib.asynccontextmanager
async def file_classifier(
    client: AsyncClient,
    support: Sequence[LabelledFile] | str,
    *,
    unknown_below: float | None,
    all_faces: bool,
    on_rejected: Callable[[Path, str], None],
) -> AsyncIterator[FileClassifier]:
    """Use the examples of a session, or add labelled files to a session that is deleted in the end.

    Args: support, labelled files or the id of a session; on_rejected, is called with each support file that
        cannot be an example, and the reason.
    Raises: NoFace if there are no examples; ClientError; OSError.
    """
    async with contextlib.AsyncExitStack() as at_end:
        files: dict[str, Path] = {}
        if isinstance(support, str):
            session_id = support
        else:
            session_id = (await client.create_session(name="csrn classify", ttl_s=SESSION_TTL_S)).id
            at_end.push_async_callback(client.delete_session, session_id)
            for chosen in batches([file for _, file in support]):
                files |= await _add_files(client, session_id, support[chosen], on_rejected)
        classes = (await client.get_session(session_id)).classes
        if not classes:
            raise NoFace("the session has no classes, or no support image shows one clear face")
        yield FileClassifier(
            client=client,
            session_id=session_id,
            labels=tuple(entry.label for entry in classes),
            files=files,
            unknown_below=unknown_below,
            all_faces=all_faces,
        )


async def _add_files(
    client: AsyncClient,
    session_id: str,
    support: Sequence[LabelledFile],
    on_rejected: Callable[[Path, str], None],
) -> dict[str, Path]:
    """Add examples. Returns: example id to file."""
    added = []
    try:
        answer = await client.add_support(session_id, support)
        added, rejected = answer.added, answer.rejected
    except ServiceProblem as problem:
        if problem.problem.rejected is None:
            raise
        rejected = problem.problem.rejected
    for image in rejected:
        on_rejected(support[image.index][1], image.detail)
    return {example.example_id: support[example.index][1] for example in added}
