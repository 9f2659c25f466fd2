"""The csrn command line. Exit codes are 0 on success, 1 on failure, 2 on bad usage and 130 on Ctrl-C.

Commands import torch and mediapipe inside their functions, so that --help takes no time.
"""

from __future__ import annotations

import logging
from typing import Annotated, NoReturn

import pydantic
import typer

from app.cli import classifying, evaluating, preparing, serving, training
from app.cli.bench import bench
from app.cli.console import print_fault
from app.cli.sessions import sessions
from model.errors import CsrnError

cli = typer.Typer(
    name="csrn",
    help="Few-shot classification of facial expressions: a few faces per class are enough.\n\n"
    "Try it:  csrn serve, then open http://127.0.0.1:8000.  Classify files without a service:  "
    "csrn classify --support DIR photo.jpg, with the examples in DIR/<label>/.\n\n"
    "Make weights:  csrn prepare, then csrn train, then csrn evaluate.  Tab completion:  "
    "csrn --install-completion.  Settings are CSRN_* environment variables (see docs/api.md).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    serving.serve,
    serving.key,
    classifying.classify,
    preparing.prepare,
    training.train,
    evaluating.evaluate,
    preparing.convert,
):
    cli.command()(command)
cli.add_typer(sessions, name="sessions")
cli.add_typer(bench, name="bench")


def _print_version(asked: bool) -> None:
    if asked:
        from app import VERSION

        print(f"csrn {VERSION}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the csrn script."""
    # The client logs each attempt to reach a service. A command reports the fault once, in one line.
    logging.getLogger("csrn_client").addHandler(logging.NullHandler())
    try:
        cli()
    except CsrnError as error:
        _fail(str(error))
    except pydantic.ValidationError as error:
        from app.api.problems import plain_message

        first = error.errors()[0]
        _fail(f"CSRN_{'_'.join(str(part) for part in first['loc']).upper()}: {plain_message(first['msg'])}")
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except Exception as error:
        from csrn_client import ClientError  # not at the top, because it slows --help down

        _fail(str(error) if isinstance(error, ClientError) else f"unexpected {type(error).__name__}: {error}")


def _fail(message: str) -> NoReturn:
    print_fault(" ".join(message.split()))
    raise SystemExit(1)
