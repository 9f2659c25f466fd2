"""csrn sessions: what a running service stores, from the command line."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from app.cli.console import cell, plain, report, stdout
from app.cli.options import ApiKey, Json

if TYPE_CHECKING:
    from csrn_client import Client
    from csrn_client.schemas import Quality, Session

sessions = typer.Typer(
    help="List, show, create, delete, export, import and examine the sessions of a running service.",
    no_args_is_help=True,
)
Url = Annotated[str, typer.Option(envvar="CSRN_URL", help="Address of the service")]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session")]
LOCAL = "http://127.0.0.1:8000"
RETRIES = 2


@sessions.command("list")
def list_sessions(
    name: Annotated[str | None, typer.Option(help="Only sessions with exactly this name")] = None,
    url: Url = LOCAL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List all your sessions, oldest first."""
    with _client(url, api_key) as client:
        found = list(_iterate(client, name))
    if as_json:
        print(json.dumps({"sessions": [session.model_dump(mode="json") for session in found]}))
        return
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
    print(_count(len(found), "session"))


@sessions.command()
def show(session_id: SessionId, url: Url = LOCAL, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show a session and its classes."""
    with _client(url, api_key) as client:
        session = client.get_session(session_id)
    if as_json:
        print(session.model_dump_json())
        return
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


@sessions.command()
def create(
    name: Annotated[str | None, typer.Option(help="A name for people; several sessions may share it")] = None,
    ttl_s: Annotated[
        float | None, typer.Option(help="Seconds until the service deletes it; by default never")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Text to keep with it; repeatable")
    ] = None,
    url: Url = LOCAL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Create an empty session."""
    if ttl_s is not None and not ttl_s > 0:
        raise typer.BadParameter(f"--ttl-s must be more than 0, not {ttl_s}")
    pairs = [entry.partition("=") for entry in metadata or ()]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise typer.BadParameter(f"--metadata needs KEY=VALUE, not {key + equals!r}")
    with _client(url, api_key) as client:
        session = client.create_session(
            name=name, ttl_s=ttl_s, metadata={key: value for key, _, value in pairs}
        )
    _tell(session, f"created {_named(session)}, which is empty", as_json=as_json)


@sessions.command()
def delete(
    session_ids: Annotated[list[str], typer.Argument(metavar="SESSION...", help="Ids of the sessions")],
    url: Url = LOCAL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Delete sessions with their examples. One that does not exist does not stop the others."""
    from csrn_client import ServiceProblem

    deleted = []
    with _client(url, api_key) as client:
        for session_id in session_ids:
            try:
                client.delete_session(session_id)
            except ServiceProblem as problem:
                report(f"{session_id}: {problem}")
                continue
            deleted.append(session_id)
            if not as_json:
                print(f"deleted {plain(session_id)}")
    if as_json:
        print(json.dumps({"deleted": deleted}))
    if len(deleted) < len(session_ids):
        raise typer.Exit(1)


@sessions.command("export")
def export_session(
    session_id: SessionId,
    file: Annotated[
        Path | None, typer.Argument(help="File to write; by default SESSION.safetensors in this folder")
    ] = None,
    url: Url = LOCAL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Write a session to a file, which csrn sessions import reads."""
    with _client(url, api_key) as client:
        archive = client.export_session(session_id)
    file = file or Path(f"{session_id}.safetensors")
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(archive)
    partial.replace(file)
    written = {"session": session_id, "file": str(file), "bytes": len(archive)}
    print(
        json.dumps(written)
        if as_json
        else f"exported {session_id} to {plain(str(file))} ({len(archive)} bytes)"
    )


@sessions.command("import")
def import_session(
    file: Annotated[Path, typer.Argument(help="File that csrn sessions export wrote")],
    url: Url = LOCAL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Create a session from an exported file. It gets a new id."""
    with _client(url, api_key) as client:
        session = client.import_session(file)
    examples = sum(known.examples for known in session.classes)
    contents = f"{_count(len(session.classes), 'class', 'classes')}, {_count(examples, 'example')}"
    _tell(session, f"imported {_named(session)}: {contents}", as_json=as_json)


@sessions.command()
def quality(session_id: SessionId, url: Url = LOCAL, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Examine a session: classify each of its examples with the help of all the others."""
    with _client(url, api_key) as client:
        found = client.get_quality(session_id)
    if as_json:
        print(found.model_dump_json())
    else:
        _print_quality(found)


def _print_quality(quality: Quality) -> None:
    console = stdout()
    verdicts = _table("class", "verdict", "examples", "correct", "in words")
    for known in quality.classes:
        correct = "" if known.correct is None else str(known.correct)
        verdict = known.verdict.replace("_", " ")
        verdicts.add_row(cell(known.label), verdict, str(known.examples), correct, cell(known.detail))
    console.print(verdicts)
    console.print()
    if quality.accuracy is None:
        print("not measurable yet: each class needs at least two examples, and a session two classes")
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


def _iterate(client: Client, name: str | None) -> Iterator[Session]:
    """All sessions with the name, or all, of every page."""
    cursor = None
    while True:
        page = client.list_sessions(cursor=cursor)
        yield from (session for session in page.sessions if name in (None, session.name))
        cursor = page.next_cursor
        if cursor is None:
            return


@contextlib.contextmanager
def _client(url: str, api_key: str | None) -> Iterator[Client]:
    from csrn_client import Client

    with Client(url, api_key=api_key, retries=RETRIES) as client:
        yield client


def _tell(session: Session, sentence: str, *, as_json: bool) -> None:
    print(session.model_dump_json() if as_json else sentence)


def _named(session: Session) -> str:
    return session.id if session.name is None else f"{session.id} ({plain(session.name)})"


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


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
