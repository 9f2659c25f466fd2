"""How csrn classify prints results: as tables, JSON or CSV, and one line that counts them."""

from __future__ import annotations

import collections
import csv
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from app.cli.console import cell, count, stdout

if TYPE_CHECKING:
    from csrn_client.schemas import Result


def printer(labels: Sequence[str], *, as_json: bool, as_csv: bool) -> Callable[[Result], None]:
    """A function that prints one result on stdout."""
    if as_json:
        return lambda result: print(result.model_dump_json(exclude_unset=True), flush=True)
    return _csv_printer(labels) if as_csv else _print_table


class Summary:
    """Counts results."""

    def __init__(self) -> None:
        self.unreadable = 0
        self._images = 0
        self._faces: collections.Counter[str | None] = collections.Counter()
        self._without_face = 0

    def add(self, result: Result) -> None:
        if result.error is not None:
            self.unreadable += 1
            return
        self._images += 1
        self._faces.update(face.predicted for face in result.faces)
        self._without_face += not result.faces

    def line(self) -> str:
        """Such as "12 images: 9 smile, 2 grin, 1 unknown; 1 could not be read"."""
        faces = self._faces.total()
        unknown = self._faces[None]
        counts = [
            f"{faces_of_label} {label}"
            for label, faces_of_label in self._faces.most_common()
            if label is not None
        ]
        counts += [f"{unknown} unknown"] * bool(unknown)
        counts += [f"{self._without_face} without a face"] * bool(self._without_face)
        line = count(self._images, "image")
        if faces + self._without_face != self._images:
            line += f", {count(faces, 'face')}"
        if counts:
            line += f": {', '.join(counts)}"
        return line + f"; {self.unreadable} could not be read" * bool(self.unreadable)


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
    console = stdout()
    if not result.faces and result.error is None:
        console.print(f"{result.filename}: no face found", markup=False, highlight=False, soft_wrap=True)
    for face in result.faces:
        columns = [*face.scores[0].parts.model_dump()]
        table = Table(
            "label",
            "score",
            *columns,
            title=cell(f"{result.filename}: {face.predicted or 'unknown'}"),
            title_justify="left",
            box=box.SIMPLE_HEAD,  # No lines between the columns, so that seven parts fit into 80 characters.
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for score in face.scores:
            parts = (f"{value:.3f}" for value in score.parts.model_dump().values())
            table.add_row(cell(score.label), f"{score.score:.3f}", *parts)
        console.print(table)
