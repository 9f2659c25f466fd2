"""csrn serve and csrn classify."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.cli.console import stderr
from app.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on", min=0, max=65535)] = 8000,
) -> None:
    """Serve the HTTP API. Settings come from CSRN_* variables."""
    import uvicorn

    from app.main import create_app

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    # Once drained, uvicorn raises the signal again for whoever handled it before: that is a good end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = Settings()
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        log_level="warning",
        ws_max_size=settings.max_image_bytes,
    )


def classify(
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="Images")],
    support: Annotated[Path, typer.Option(help="Folder of <label>/<image> examples")],
    unknown_below: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score under which no class is predicted")
    ] = None,
    all_faces: Annotated[bool, typer.Option("--all-faces", help="Answer for each face")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One Result of the API a line")] = False,
) -> None:
    """Classify images by the examples in a folder."""
    from app.classify_files import LabelledFile, classify_files
    from app.engine import Upload
    from app.schemas import normalized_label
    from model.training.datasets import open_dataset

    with open_dataset("folder", support) as dataset:
        examples = [
            LabelledFile(
                label=normalized_label(image.label),
                upload=Upload(filename=image.source, data=dataset.read(image)),
            )
            for image in dataset.images
        ]
    uploads = [Upload(filename=str(path), data=path.read_bytes()) for path in queries]
    results = asyncio.run(
        classify_files(
            Settings(),
            support=examples,
            queries=uploads,
            unknown_below=unknown_below,
            all_faces=all_faces,
            on_rejected=lambda name, error: stderr.print(f"{name} is no example: {error}"),
        )
    )
    if as_json:
        for result in results.results:
            print(result.model_dump_json(exclude_unset=True))
    else:
        for result in results.results:
            _print_result(result)
    if all(result.error for result in results.results):
        raise typer.Exit(1)


def _print_result(result: object) -> None:
    from app.schemas import Result

    assert isinstance(result, Result)
    console = Console()
    if result.error:
        console.print(f"{result.filename}: {result.error.detail}", markup=False)
    elif not result.faces:
        console.print(f"{result.filename}: no face was found", markup=False)
    for face in result.faces:
        columns = [*face.scores[0].parts.model_dump()]
        table = Table(
            "label",
            "score",
            *columns,
            title=escape(f"{result.filename}: {face.predicted or 'unknown'}"),
            title_justify="left",
        )
        for score in face.scores:
            parts = (f"{value:.3f}" for value in score.parts.model_dump().values())
            table.add_row(escape(score.label), f"{score.score:.3f}", *parts)
        console.print(table)
