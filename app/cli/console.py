"""What several commands print with: progress bars, error lines, text that is safe on a terminal."""

from __future__ import annotations

import os
import unicodedata

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

WIDTH_OF_FILES = 160
stderr = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
"""Prints each text as it is. Tables and progress bars keep to the width of the terminal"""


class StageBars(Progress):
    """Progress bars on stderr, one for each stage that has begun."""

    def __init__(self, *, disable: bool = False) -> None:
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        super().__init__(*columns, console=stderr, disable=disable)
        self._rows: dict[str, TaskID] = {}

    def show(self, stage: str, done: int, total: int, *, description: str | None = None) -> None:
        """Show that a stage has done `done` of `total` steps."""
        if stage not in self._rows:
            self._rows[stage] = self.add_task(stage)
        self.update(self._rows[stage], completed=done, total=total, description=description or stage)


def stdout() -> Console:
    """A console for tables. In a file or a pipe they may be wider than the 80 characters of rich."""
    console = Console(emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_OF_FILES
    return console


def print_fault(message: str) -> None:
    """Print one line on stderr."""
    stderr.print(f"csrn: {plain(message)}")


def plain(text: str) -> str:
    """Text with its control characters written out, because a terminal would obey them."""
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in ("Cc", "Cs") else character
        for character in text
    )


def count(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun: "1 image", "2 images"."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def cell(text: str) -> str:
    """Any text as a cell of a table of rich: its markup is shown, not applied."""
    return escape(plain(text))
