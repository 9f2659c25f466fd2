"""How csrn sessions prints sessions and their quality for people."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from app.cli.console import cell, count, stdout

if TYPE_CHECKING:
    from csrn_client.schemas import Quality, Session


def print_sessions(found: Sequence[Session]) -> None:
    """One line for each session."""
    table = _table("id", "name", "classes", "examples", "created", "expires")
    for session in found:
        table.add_row(
            session.id,
            cell(session.name or ""),
            str(len(session.classes)),
            str(sum(known.examples for known in session.classes)),
            _time(session.created_at),
            _time(session.expires_at),
        )
    if found:
        stdout().print(table, "")
    print(count(len(found), "session"))


def print_session(session: Session) -> None:
    """The fields of a session and its classes."""
    console = stdout()
    facts = Table(box=None, show_header=False, pad_edge=False)
    for fact, value in (
        ("id", session.id),
        ("name", session.name or ""),
        ("created", _time(session.created_at)),
        ("expires", _time(session.expires_at)),
        ("revision", str(session.revision)),
        ("weights", session.weights_sha256),
        *((f"metadata {key}", str(value)) for key, value in session.metadata.items()),
    ):
        facts.add_row(cell(fact), cell(value))
    console.print(facts)
    console.print()
    if not session.classes:
        print("no classes yet")
        return
    classes = _table("class", "examples", "")
    for known in session.classes:
        classes.add_row(cell(known.label), str(known.examples), "" if known.enabled else "disabled")
    console.print(classes)


def print_quality(quality: Quality) -> None:
    """Verdicts, the confusion matrix and the confusing examples."""
    console = stdout()
    verdicts = _table("class", "verdict", "examples", "correct", "in words")
    for known in quality.classes:
        correct = "" if known.correct is None else str(known.correct)
        verdict = known.verdict.replace("_", " ")
        verdicts.add_row(cell(known.label), verdict, str(known.examples), correct, cell(known.detail))
    console.print(verdicts)
    console.print()
    if quality.accuracy is None:
        print(
            "not measurable yet: a session needs two enabled classes, and each of them at least two examples"
        )
        return
    confusion = _table("class", *map(cell, quality.labels), title="classified as")
    for label, row in zip(quality.labels, quality.confusion, strict=True):
        confusion.add_row(cell(label), *map(str, row))
    console.print(confusion)
    console.print()
    examples = _table("confusing example", "class", "classified as", "margin")
    for known in quality.classes:
        for example in known.confusing_examples:
            margin = f"{example.margin:.3f}"
            examples.add_row(cell(example.example_id), cell(known.label), cell(example.predicted), margin)
    if examples.row_count:
        console.print(examples)
        console.print()
    print(f"{100 * quality.accuracy:.0f} % of the examples are classified correctly by the others")


def _table(*columns: str, title: str | None = None) -> Table:
    """A table whose first column and times are never shortened."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
    )
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=number == 0 or name in ("created", "expires"), overflow="fold")
    return table


def _time(moment: datetime.datetime | None) -> str:
    """A time in the zone of this machine, to the minute."""
    return "never" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M")
