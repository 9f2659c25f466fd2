"""Classify image files with a few examples, by a running service or by one inside this process."""

from __future__ import annotations

import contextlib
import glob
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import httpx
from pydantic import SecretStr

from app.settings import Settings
from csrn_client import AsyncClient, ServiceProblem
from csrn_client.messages import path_text
from csrn_client.schemas import ItemError, Result
from model.errors import CsrnError
from model.vision.images import IMAGE_SUFFIXES

MAX_FILES_PER_REQUEST, MAX_BYTES_PER_REQUEST = 16, 32 * 2**20
RETRIES = 2
SESSION_TTL_S = 24 * 3600.0
"""After this time a service deletes the session of a command that was killed"""
NO_LIMIT = 2**40
"""For settings that protect a service from its clients"""
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
    """Slices of files, one for each request: at most MAX_FILES_PER_REQUEST files.

    Together they have at most MAX_BYTES_PER_REQUEST bytes; a larger file has a request of its own.
    """
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
        settings = Settings(
            store=store,
            api_keys=SecretStr(""),
            rate_limit="",
            max_images=NO_LIMIT,
            max_image_bytes=NO_LIMIT,
            max_body_bytes=NO_LIMIT,
            max_body_bytes_in_progress=NO_LIMIT,
            max_bytes_per_key=NO_LIMIT,
            max_classes=NO_LIMIT,
            max_examples=NO_LIMIT,
        )
        # A command reports a fault and ends by itself.
        app = create_app(settings, exit_process=lambda _: None)
        async with (
            app.router.lifespan_context(app),
            AsyncClient(transport=httpx.ASGITransport(app), retries=RETRIES) as client,
        ):
            yield client


@contextlib.asynccontextmanager
async def session_of_files(
    client: AsyncClient, support: Sequence[LabelledFile], *, on_rejected: Callable[[Path, str], None]
) -> AsyncIterator[tuple[str, dict[str, Path]]]:
    """A session with labelled files as examples, deleted at the end, and the file of each example id.

    Args: on_rejected, is called with each file that cannot be an example, and the reason.
    Raises: ClientError; OSError.
    """
    session_id = (await client.create_session(name="csrn classify", ttl_s=SESSION_TTL_S)).id
    files: dict[str, Path] = {}
    try:
        for chosen in batches([file for _, file in support]):
            try:
                answer = await client.add_support(session_id, support[chosen])
                added, rejected = answer.added, answer.rejected
            except ServiceProblem as problem:
                if problem.problem.rejected is None:
                    raise
                added, rejected = [], problem.problem.rejected
            for image in rejected:
                on_rejected(support[chosen][image.index][1], image.detail)
            files |= {example.example_id: support[chosen][example.index][1] for example in added}
        yield session_id, files
    finally:
        await client.delete_session(session_id)


async def results(
    client: AsyncClient,
    session_id: str,
    queries: Sequence[Path],
    *,
    unknown_below: float | None,
    all_faces: bool,
) -> AsyncIterator[Result]:
    """The result of each file, in order. Raises: ClientError; OSError."""

    async def classify(files: Sequence[Path]) -> list[Result]:
        try:
            return (
                await client.classify(session_id, files, unknown_below=unknown_below, all_faces=all_faces)
            ).results
        except ServiceProblem as problem:
            if problem.code not in ("image_unreadable", "body_too_large"):
                raise
            if len(files) > 1:  # The service refused all of them, perhaps because of one.
                return [result for file in files for result in await classify([file])]
            error = ItemError(code=problem.code, detail=problem.problem.detail)
            return [Result(index=0, filename=None, faces=[], error=error)]

    for chosen in batches(queries):
        for index, result in enumerate(await classify(queries[chosen]), chosen.start):
            result.index, result.filename = index, path_text(queries[index])
            yield result
