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

from app.cli.options import DeviceName, read_settings
from csrn_client import AsyncClient, ServiceProblem
from csrn_client.images import path_text
from csrn_client.schemas import ItemError, Result
from model.vision.images import IMAGE_SUFFIXES

FILES_AT_ONCE = 16
"""The files between two steps of the progress bar"""
RETRIES = 2
SESSION_TTL_S = 24 * 3600.0
"""After this time a service deletes the session of a command that was killed"""
NO_LIMIT = 2**40
"""For settings that protect a service from its clients"""
LabelledFile = tuple[str, Path]


def find_images(
    paths: Sequence[str], *, on_missing: Callable[[str], None], leave_out: Path | None = None
) -> list[Path]:
    """Image files in order: named files, all images in named folders, and files that match patterns.

    Args: on_missing, is called with each path that names no image; leave_out, a folder whose images are not
        found in the folders around it or by patterns.
    """

    def is_left_out(file: Path, around: Path) -> bool:
        folder = None if leave_out is None else leave_out.resolve()
        return folder is not None and folder != around.resolve() and folder in file.resolve().parents

    found: list[Path] = []
    for path in paths:
        named = Path(path)
        if named.is_dir():
            files = (file for file in named.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
            images = [file for file in files if not file.is_dir() and not is_left_out(file, named)]
        elif named.exists():
            images = [named]
        else:
            files = (Path(name) for name in glob.glob(path, recursive=True))
            images = [file for file in files if file.is_file() and not is_left_out(file, Path())]
        if not images:
            on_missing(path)
        found += sorted(images)
    return found


def parts(files: Sequence[object]) -> Iterator[slice]:
    """Slices of at most FILES_AT_ONCE files."""
    return (slice(start, start + FILES_AT_ONCE) for start in range(0, len(files), FILES_AT_ONCE))


@contextlib.asynccontextmanager
async def connect(
    url: str | None, api_key: str | None, *, weights: Path | None = None, device: DeviceName | None = None
) -> AsyncIterator[AsyncClient]:
    """A client of the service at the address, or of a service that runs inside this process.

    Args: weights and device, of the service inside this process; by default those of the settings.
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
        settings = read_settings(
            weights=weights,
            device=device,
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
    Raises: ClientError.
    """
    session_id = (await client.create_session(name="csrn classify", ttl_s=SESSION_TTL_S)).id
    files: dict[str, Path] = {}

    async def add(examples: Sequence[LabelledFile]) -> None:
        try:
            answer = await client.add_support(session_id, examples)
            added, rejected = answer.added, answer.rejected
        except ServiceProblem as problem:
            if problem.problem.rejected is None:
                raise
            added, rejected = [], problem.problem.rejected
        except OSError as error:
            if len(examples) > 1:  # One of the files cannot be read.
                for example in examples:
                    await add([example])
                return
            on_rejected(examples[0][1], error.strerror or str(error))
            return
        for image in rejected:
            on_rejected(examples[image.index][1], image.detail)
        files.update({example.example_id: examples[example.index][1] for example in added})

    try:
        for chosen in parts(support):
            await add(support[chosen])
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
    top_k: int | None,
) -> AsyncIterator[Result]:
    """The result of each file, in order. A file that cannot be read has an error. Raises: ClientError."""

    async def classify(files: Sequence[Path]) -> list[Result]:
        try:
            answer = await client.classify(
                session_id, files, unknown_below=unknown_below, all_faces=all_faces, top_k=top_k
            )
            return answer.results
        except ServiceProblem as problem:
            if problem.code not in ("image_unreadable", "body_too_large"):
                raise
            error = ItemError(code=problem.code, detail=problem.problem.detail)
        except OSError as problem:
            error = ItemError(code="file_unreadable", detail=problem.strerror or str(problem))
        if len(files) > 1:  # Perhaps only one of them is at fault.
            return [result for file in files for result in await classify([file])]
        return [Result(index=0, filename=None, faces=[], error=error)]

    for chosen in parts(queries):
        for index, result in enumerate(await classify(queries[chosen]), chosen.start):
            result.index, result.filename = index, path_text(queries[index])
            yield result
