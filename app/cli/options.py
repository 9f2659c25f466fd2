"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Classes = Annotated[str, typer.Option(help="Comma-separated labels; all of the data by default")]
AtLeastOne = Annotated[int, typer.Option(min=1)]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1)]


def split_list(text: str) -> tuple[str, ...]:
    """The items of a comma-separated option."""
    return tuple(filter(None, (item.strip() for item in text.split(","))))
