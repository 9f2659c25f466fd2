"""csrn sessions: what a running service stores, from the command line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import count, plain, print_fault
from app.cli.options import ApiKey, Json, finite
from app.cli.session_tables import print_quality, print_session, print_sessions

if TYPE_CHECKING:
    from csrn_client import Client
    from csrn_client.schemas import Session

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
        found = list(client.iterate_sessions(name=name))
    if as_json:
        print(json.dumps({"sessions": [session.model_dump(mode="json") for session in found]}))
        return
    print_sessions(found)


@sessions.command()
def show(session_id: SessionId, url: Url = LOCAL, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show a session and its classes."""
    with _client(url, api_key) as client:
        session = client.get_session(session_id)
    if as_json:
        print(session.model_dump_json())
        return
    print_session(session)


@sessions.command()
def create(
    name: Annotated[str | None, typer.Option(help="A name for people; several sessions may share it")] = None,
    ttl_s: Annotated[
        float | None,
        typer.Option(callback=finite, help="Seconds until the service deletes it; by default never"),
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
    from csrn_client import InvalidValue, ServiceProblem

    deleted = []
    with _client(url, api_key) as client:
        for session_id in session_ids:
            try:
                client.delete_session(session_id)
            except (InvalidValue, ServiceProblem) as problem:
                print_fault(f"{session_id}: {problem}")
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
    contents = f"{count(len(session.classes), 'class', 'classes')}, {count(examples, 'example')}"
    _tell(session, f"imported {_named(session)}: {contents}", as_json=as_json)


@sessions.command()
def quality(session_id: SessionId, url: Url = LOCAL, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Examine a session: classify each of its examples with the help of all the others."""
    with _client(url, api_key) as client:
        found = client.get_quality(session_id)
    if as_json:
        print(found.model_dump_json())
    else:
        print_quality(found)


@contextlib.contextmanager
def _client(url: str, api_key: str | None) -> Iterator[Client]:
    from csrn_client import Client

    with Client(url, api_key=api_key, retries=RETRIES) as client:
        yield client


def _tell(session: Session, sentence: str, *, as_json: bool) -> None:
    print(session.model_dump_json() if as_json else sentence)


def _named(session: Session) -> str:
    return session.id if session.name is None else f"{session.id} ({plain(session.name)})"
