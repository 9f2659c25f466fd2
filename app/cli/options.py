"""Options that csrn train and csrn evaluate share."""

from __future__ import annotations

from typing import Annotated

import typer

Classes = Annotated[str, typer.Option(help="Comma-separated labels; by default all labels of the data")]
AtLeastOne = Annotated[int, typer.Option(min=1)]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1)]


def split_list(text: str) -> tuple[str, ...]:
    """Split a comma-separated option into its items."""
    return tuple(filter(None, (item.strip() for item in text.split(","))))
