"""csrn prepare and csrn convert."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from app.cli.console import StageBars, cell, stdout


def prepare(
    dataset: Annotated[
        Literal["fer2013", "rafdb", "sfew", "afew", "folder"],
        typer.Argument(help="Layout of the data set; folder is SOURCE/<label>/<image>"),
    ],
    source: Annotated[Path, typer.Argument(help="Folder, zip or CSV of the data set")],
    out: Annotated[Path, typer.Argument(help="Folder to write; an interrupted run is resumed")],
    votes: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="FER+ votes by file name, or FER+'s fer2013new.csv for fer2013.csv; "
            "not needed for the image files of fer2013",
        ),
    ] = None,
    person: Annotated[
        re.Pattern[str] | None,
        typer.Option(
            metavar="REGEX",
            parser=_person,
            help="The first group of its match in an image's path names the person",
        ),
    ] = None,
    blendshapes: Annotated[
        Path | None,
        typer.Option(
            metavar="FACE_LANDMARKER.task",
            help="Add blendshapes with this bundle of MediaPipe's Face Landmarker",
        ),
    ] = None,
) -> None:
    """Find the face in each image of a data set and cut its patches for training.

    Run the command again on a finished folder to add blendshapes, or to change votes or persons.
    """
    from model.training.datasets import open_dataset
    from model.training.datasets.votes import read_votes
    from model.training.prepare import prepare as prepare_dataset
    from model.training.prepared import DETECTIONS, load_prepared

    with open_dataset(dataset, source) as opened, StageBars() as bars:
        table_of_votes = None if votes is None else read_votes(votes, opened.images)
        report = prepare_dataset(
            opened,
            out,
            votes=table_of_votes,
            person=person,
            task_file=blendshapes,
            progress=bars.show,
        )
    table = Table("label", "images", *(name.replace("_", " ") for name in DETECTIONS))
    for label, counts in sorted(report.items()):
        table.add_row(cell(label), str(counts.total()), *(str(counts[name]) for name in DETECTIONS))
    whole = sum(report.values(), Counter[str]())
    table.add_row("all", str(whole.total()), *(str(whole[name]) for name in DETECTIONS), style="bold")
    stdout().print(table)
    faces = load_prepared(out)
    persons = set(faces.persons.tolist()) - {""}
    with_blendshapes = 0 if faces.all_blendshapes is None else int((faces.blendshapes()[:, 0] >= 0).sum())
    print(
        f"{len(faces)} faces: {int(faces.votes.any(axis=1).sum())} with votes, "
        f"{int((faces.persons != '').sum())} with a known person ({len(persons)} persons), "
        f"{with_blendshapes} with blendshapes"
    )


def convert(
    feature_encoder: Annotated[Path, typer.Argument(metavar="FEATURE_ENCODER.pth", help="Published encoder")],
    relation_network: Annotated[
        Path, typer.Argument(metavar="RELATION_NETWORK.pth", help="Published relation network of the encoder")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="Weights to write")],
) -> None:
    """Convert a published checkpoint pair to one safetensors file."""
    from model.checkpoint import convert_published

    convert_published(feature_encoder, relation_network, out)
    print(f"wrote {out}")


def _person(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is not a regular expression: {error}") from None
    if pattern.groups == 0:
        raise typer.BadParameter(f"{text!r} needs a group around the person, such as '(S[0-9]+)_'")
    return pattern
