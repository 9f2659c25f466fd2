"""csrn classify."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import StageBars, stderr
from app.settings import Settings

if TYPE_CHECKING:
    from app.cli.classify_files import FileClassifier, LabelledFile
    from csrn_client.schemas import Result


RETRIES = 2


def classify(
    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERY...", help="Images, folders of images, or patterns such as '*.jpg'"),
    ],
    support: Annotated[
        Path | None, typer.Option(help="Folder of <label>/<image> examples", metavar="DIR")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Ask the service that runs there, instead of computing here")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="With --url: a session that is taught already, instead of --support")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="CSRN_API_KEY", help="With --url: the key to ask with")
    ] = None,
    unknown_below: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score under which no class is predicted")
    ] = None,
    all_faces: Annotated[bool, typer.Option("--all-faces", help="Answer for each face")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One Result of the API a line")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One face a line, one column a class")] = False,
) -> None:
    """Classify images by a few labelled examples.

    Here, without a service:      csrn classify --support examples/ photo.jpg more/ '*.png'

    By a service, which may have a GPU:      csrn classify --url http://host:8000 --support examples/ photos/

    Exit code 1 where not one of the images could be read.
    """
    if (support is None) == (session is None):
        raise typer.BadParameter("give either --support DIR, or --session ID with --url")
    if session is not None and url is None:
        raise typer.BadParameter("--session needs --url: sessions live in a service")
    if as_json and as_csv:
        raise typer.BadParameter("give either --json or --csv")
    from app.cli.classify_files import find_images, in_steps

    files = find_images(queries)
    readable = False
    taught: list[LabelledFile] | str
    if support is not None:
        taught = _find_support(support)
    else:
        assert session is not None
        taught = session
    with (
        _classifier(taught, url, api_key, unknown_below, all_faces) as classifier,
        StageBars() as bars,
    ):
        show = _printer(classifier.labels, as_json=as_json, as_csv=as_csv)
        done = 0
        for some in in_steps(files, lambda file: file):
            for result in classifier.classify(some):
                show(result.model_copy(update={"index": done}))
                readable |= result.error is None
                done += 1
            if len(files) > len(some):
                bars.show("classifying", done, len(files))
    if not readable:
        raise typer.Exit(1)


def _find_support(folder: Path) -> list[LabelledFile]:
    """The images of <folder>/<label>/. Raises: DatasetInvalid; ValueError for a label."""
    from csrn_client.fields import normalized_label
    from model.training.datasets import open_dataset

    with open_dataset("folder", folder) as dataset:
        return [(normalized_label(image.label), folder / image.source) for image in dataset.images]


def _classifier(
    taught: list[LabelledFile] | str,
    url: str | None,
    api_key: str | None,
    unknown_below: float | None,
    all_faces: bool,
) -> FileClassifier:
    """taught: labelled files, or with a url the id of a session."""
    from app.cli.classify_files import LocalClassifier, RemoteClassifier
    from csrn_client import Client

    def on_rejected(file: Path, reason: str) -> None:
        stderr.print(f"{file} is no example: {reason}", markup=False, soft_wrap=True)

    if url is not None:
        return RemoteClassifier(
            Client(url, api_key=api_key, retries=RETRIES),
            taught,
            unknown_below=unknown_below,
            all_faces=all_faces,
            on_rejected=on_rejected,
        )
    assert not isinstance(taught, str)
    return LocalClassifier(
        Settings(),
        taught,
        unknown_below=unknown_below,
        all_faces=all_faces,
        on_rejected=on_rejected,
    )


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
    if result.error:
        console.print(f"{result.filename}: {result.error.detail}", markup=False, soft_wrap=True)
    elif not result.faces:
        console.print(f"{result.filename}: no face was found", markup=False, soft_wrap=True)
    for face in result.faces:
        columns = [*face.scores[0].parts.model_dump()]
        table = Table(
            "label",
            "score",
            *columns,
            title=escape(f"{result.filename}: {face.predicted or 'unknown'}"),
            title_justify="left",
            box=box.SIMPLE_HEAD,  # without lines between the columns seven parts fit into 80 characters
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for score in face.scores:
            parts = (f"{value:.3f}" for value in score.parts.model_dump().values())
            table.add_row(escape(score.label), f"{score.score:.3f}", *parts)
        console.print(table)
