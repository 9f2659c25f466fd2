"""Options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.settings import Settings
from model.errors import DatasetInvalid

if TYPE_CHECKING:
    from model.training.prepared import PreparedImages

DeviceName = Literal["auto", "cpu", "cuda"]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights to use; by default CSRN_WEIGHTS, else those of this package"),
]
Device = Annotated[
    DeviceName | None, typer.Option(help="Where to compute; by default CSRN_DEVICE, else auto: a GPU if any")
]
ApiKey = Annotated[str | None, typer.Option(envvar="CSRN_API_KEY", help="Your API key")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line")]
Classes = Annotated[str, typer.Option(help="Comma-separated labels; by default all labels of the data")]
Way = Annotated[int, typer.Option(min=1, help="Classes of an episode")]
Shot = Annotated[int, typer.Option(min=1, help="Examples of each class")]
Query = Annotated[int, typer.Option(min=1, help="Queries of each class")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same episodes")]


def finite(number: float | None) -> float | None:
    """Refuses inf and nan: nan is in every range. For the callback of an option. Raises: BadParameter."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"{number} is not a finite number")
    return number


def read_settings(**options: object) -> Settings:
    """The settings of the CSRN_* variables. Options that were given replace them; None was not given."""
    return Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]


def split_list(text: str) -> tuple[str, ...]:
    """Split a comma-separated option into its items."""
    return tuple(filter(None, (item.strip() for item in text.split(","))))


def chosen_classes(text: str, images: PreparedImages) -> tuple[str, ...]:
    """The classes that --classes names, or all classes of the images.

    Raises: DatasetInvalid if a class has no image.
    """
    known = sorted(set(images.labels.tolist()) - {""})
    chosen = split_list(text)
    if missing := [label for label in chosen if label not in known]:
        classes = "class" if len(missing) == 1 else "classes"
        raise DatasetInvalid(
            f"{images.folder} has no {classes} {', '.join(map(repr, missing))}; it has {', '.join(known)}"
        )
    return chosen or tuple(known)
