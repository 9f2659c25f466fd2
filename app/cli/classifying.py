"""csrn classify."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import StageBars, plain, print_fault, stderr
from app.cli.options import ApiKey, Device, Weights, finite
from app.cli.result_formats import Summary, printer

if TYPE_CHECKING:
    from app.cli.classify_files import LabelledFile


def classify(
    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERY...", help="Images, folders of images, or patterns such as '*.jpg'"),
    ],
    support: Annotated[
        Path | None, typer.Option(help="Folder of examples, DIR/<label>/<image>", metavar="DIR")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Address of a running service; by default this process computes")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(help="Id of a session that has examples, instead of --support; with --url or CSRN_URL"),
    ] = None,
    api_key: ApiKey = None,
    unknown_below: Annotated[
        float | None,
        typer.Option(min=0, max=1, callback=finite, help="Predict no class if the best score is lower"),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show only the best N classes")
    ] = None,
    all_faces: Annotated[bool, typer.Option("--all-faces", help="Classify every face of an image")] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save copies of the images in this folder, with boxes and labels drawn on them; "
            "replaces pictures of an earlier run, and no other file",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON Result of the HTTP API per line")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One line per face, one column per class")] = False,
    weights: Weights = None,
    device: Device = None,
) -> None:
    """Classify images with a few labelled examples.

    Without a service:      csrn classify --support examples/ photo.jpg more/ '*.png'

    By a running service:      csrn classify --url http://HOST:8000 --support examples/ photo.jpg

    Results go to stdout. Faults and a line that counts the results go to stderr.

    The exit code is 1 if a query or an example cannot be used. All other images are classified.
    """
    if (support is None) == (session is None):
        raise typer.BadParameter("give either --support DIR, or --session ID with --url")
    if session is not None:
        url = url or os.environ.get("CSRN_URL")
        if url is None:
            raise typer.BadParameter("--session needs --url, because sessions live in a service")
    if url is not None and (weights or device):
        raise typer.BadParameter("with --url the service computes: leave out --weights and --device")
    if as_json and as_csv:
        raise typer.BadParameter("give either --json or --csv")
    from app.cli import classify_files
    from app.sessions.errors import ClassNotFound
    from csrn_client.images import path_text
    from model.errors import ImageUnreadable, NoFace

    examples = [] if support is None else _find_support(support)
    faults: list[str] = []

    def fail(message: str) -> None:
        faults.append(message)
        print_fault(message)

    summary = Summary()

    def fail_missing(path: str) -> None:
        summary.unreadable += 1
        why = "no image found in it" if os.path.isdir(path) else "no such image"
        fail(f"{path_text(Path(path))}: {why}")

    files = classify_files.find_images(queries, on_missing=fail_missing, leave_out=save)
    if not files:
        raise typer.Exit(1)
    pictures = {} if save is None else _picture_paths(files, [file for _, file in examples], save)

    async def classify_all() -> None:
        async with contextlib.AsyncExitStack() as at_end:
            client = await at_end.enter_async_context(
                classify_files.connect(url, api_key, weights=weights, device=device)
            )
            session_id = session
            sources: dict[str, str] = {}
            if session_id is None:
                added = await at_end.enter_async_context(
                    classify_files.session_of_files(
                        client,
                        examples,
                        on_rejected=lambda file, why: fail(f"{path_text(file)} is not used: {why}"),
                    )
                )
                session_id = added[0]
                sources = {example_id: path_text(file) for example_id, file in added[1].items()}
            classes = (await client.get_session(session_id)).classes
            labels = [known.label for known in classes if known.enabled]
            if not labels:
                if session is None:
                    raise NoFace("no support image shows one clear face")
                raise ClassNotFound("the session has no enabled class")
            show = printer(labels, as_json=as_json, as_csv=as_csv)
            few = len(files) <= classify_files.FILES_AT_ONCE
            bars = at_end.enter_context(StageBars(disable=few))
            async for result in classify_files.results(
                client, session_id, files, unknown_below=unknown_below, all_faces=all_faces, top_k=top_k
            ):
                for score in (score for face in result.faces for score in face.scores):
                    example_id = score.nearest_example_id
                    score.nearest_example_id = sources.get(example_id, example_id)
                show(result)
                summary.add(result)
                if result.error is not None:
                    fail(f"{result.filename}: {result.error.detail}")
                elif pictures:
                    from app.cli.pictures import label_colours, save_picture

                    file = files[result.index]
                    try:
                        save_picture(file, result, pictures[file], label_colours(labels))
                    except ImageUnreadable as error:
                        fail(f"{path_text(file)} is not drawn: {error}")
                bars.show("classifying", result.index + 1, len(files))

    asyncio.run(classify_all())
    stderr.print(plain(summary.line()))
    if faults:
        raise typer.Exit(1)


def _picture_paths(files: Sequence[Path], examples: Sequence[Path], folder: Path) -> Mapping[Path, Path]:
    """Where the picture of each file goes. Raises: BadParameter if a picture would replace another file.

    Pictures of an earlier run are replaced.
    """
    from app.cli.pictures import is_saved_picture, picture_paths
    from csrn_client.images import path_text

    paths = picture_paths(files, folder)
    originals = {file.resolve() for file in (*files, *examples)}
    for path in paths.values():
        is_free = not os.path.lexists(path) or is_saved_picture(path)
        if not is_free or path.resolve() in originals:
            raise typer.BadParameter(f"--save would replace {path_text(path)}: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return paths


def _find_support(folder: Path) -> list[LabelledFile]:
    """The images of <folder>/<label>/. Raises: DatasetInvalid."""
    from csrn_client.field_rules import normalized_label
    from csrn_client.images import path_text
    from model.errors import DatasetInvalid
    from model.training.datasets import open_dataset

    def label_of(name: str) -> str:
        try:
            return normalized_label(name)
        except ValueError as error:
            raise DatasetInvalid(f"{path_text(folder / name)}: {error}") from None

    with open_dataset("folder", folder) as dataset:
        return [(label_of(image.label), folder / image.source) for image in dataset.images]
