"""csrn classify."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import StageBars, stderr

if TYPE_CHECKING:
    from app.cli.classify_files import LabelledFile
    from csrn_client.schemas import Result


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
        str | None, typer.Option(help="With --url: id of a session that has examples, instead of --support")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="CSRN_API_KEY", help="With --url: your API key")
    ] = None,
    unknown_below: Annotated[
        float | None, typer.Option(min=0, max=1, help="Predict no class if the best score is lower")
    ] = None,
    all_faces: Annotated[bool, typer.Option("--all-faces", help="Classify every face of an image")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON Result of the HTTP API per line")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One line per face, one column per class")] = False,
) -> None:
    """Classify images with a few labelled examples.

    Without a service:      csrn classify --support examples/ photo.jpg more/ '*.png'

    By a running service:      csrn classify --url http://HOST:8000 --support examples/ photo.jpg

    The exit code is 1 if an image cannot be read. The other images are classified.
    """
    if (support is None) == (session is None):
        raise typer.BadParameter("give either --support DIR, or --session ID with --url")
    if session is not None and url is None:
        raise typer.BadParameter("--session needs --url, because sessions live in a service")
    if as_json and as_csv:
        raise typer.BadParameter("give either --json or --csv")
    from app.cli import classify_files
    from csrn_client.messages import path_text
    from model.errors import NoFace

    files = classify_files.find_images(queries)
    examples = [] if support is None else _find_support(support)

    async def classify_all() -> bool:
        """Print the result of each file. Returns whether all files could be read."""
        all_readable = True
        async with contextlib.AsyncExitStack() as at_end:
            client = await at_end.enter_async_context(classify_files.connect(url, api_key))
            session_id = session
            sources: dict[str, str] = {}
            if session_id is None:
                added = await at_end.enter_async_context(
                    classify_files.session_of_files(
                        client,
                        examples,
                        on_rejected=lambda file, why: _report(f"csrn: {path_text(file)} is not used: {why}"),
                    )
                )
                session_id = added[0]
                sources = {example_id: path_text(file) for example_id, file in added[1].items()}
            classes = (await client.get_session(session_id)).classes
            if not classes:
                raise NoFace("the session has no classes, or no support image shows one clear face")
            show = _printer([known.label for known in classes], as_json=as_json, as_csv=as_csv)
            few = len(files) <= classify_files.MAX_FILES_PER_REQUEST
            bars = at_end.enter_context(StageBars(disable=few))
            async for result in classify_files.results(
                client, session_id, files, unknown_below=unknown_below, all_faces=all_faces
            ):
                for score in (score for face in result.faces for score in face.scores):
                    example_id = score.nearest_example_id
                    score.nearest_example_id = sources.get(example_id, example_id)
                show(result)
                if result.error is not None:
                    _report(f"csrn: {result.filename}: {result.error.detail}")
                    all_readable = False
                bars.show("classifying", result.index + 1, len(files))
        return all_readable

    if not asyncio.run(classify_all()):
        raise typer.Exit(1)


def _report(line: str) -> None:
    stderr.print(line, markup=False, highlight=False, soft_wrap=True)


def _find_support(folder: Path) -> list[LabelledFile]:
    """The images of <folder>/<label>/. Raises: DatasetInvalid."""
    from csrn_client.field_rules import normalized_label
    from csrn_client.messages import path_text
    from model.errors import DatasetInvalid
    from model.training.datasets import open_dataset

    def label_of(name: str) -> str:
        try:
            return normalized_label(name)
        except ValueError as error:
            raise DatasetInvalid(f"{path_text(folder / name)}: {error}") from None

    with open_dataset("folder", folder) as dataset:
        return [(label_of(image.label), folder / image.source) for image in dataset.images]


def _printer(labels: Sequence[str], *, as_json: bool, as_csv: bool) -> Callable[[Result], None]:
    if as_json:
        return lambda result: print(result.model_dump_json(exclude_unset=True), flush=True)
    return _csv_printer(labels) if as_csv else _print_table


def _csv_printer(labels: Sequence[str]) -> Callable[[Result], None]:
    rows = csv.writer(sys.stdout)
    rows.writerow(
        ["filename", "face", "predicted", "margin", "error", *(f"score {label}" for label in labels)]
    )

    def show(result: Result) -> None:
        if result.error or not result.faces:
            problem = result.error.code if result.error else "no_face"
            rows.writerow([result.filename, "", "", "", problem, *[""] * len(labels)])
        for number, face in enumerate(result.faces):
            scores = {score.label: f"{score.score:.4f}" for score in face.scores}
            margin = "" if face.margin is None else f"{face.margin:.4f}"
            predicted = face.predicted or ""
            rows.writerow(
                [result.filename, number, predicted, margin, "", *(scores.get(label, "") for label in labels)]
            )

    return show


def _print_table(result: Result) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not result.faces and result.error is None:
        console.print(f"{result.filename}: no face found", markup=False, soft_wrap=True)
    for face in result.faces:
        columns = [*face.scores[0].parts.model_dump()]
        table = Table(
            "label",
            "score",
            *columns,
            title=escape(f"{result.filename}: {face.predicted or 'unknown'}"),
            title_justify="left",
            box=box.SIMPLE_HEAD,  # No lines between the columns, so that seven parts fit into 80 characters.
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for score in face.scores:
            parts = (f"{value:.3f}" for value in score.parts.model_dump().values())
            table.add_row(escape(score.label), f"{score.score:.3f}", *parts)
        console.print(table)
