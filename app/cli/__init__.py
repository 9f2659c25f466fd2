"""The csrn command line. Each command ends with exit code 0, 2 on bad usage, 1 on failure, 130 on Ctrl-C.

Heavy imports (torch, mediapipe) are made inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import pydantic
import typer

from app.cli import classifying, evaluating, preparing, serving, training
from app.cli.bench import bench
from model.errors import CsrnError

cli = typer.Typer(
    name="csrn",
    help="Few-shot facial expression classification: teach a class with a handful of faces.\n\n"
    "Try it:  csrn serve, then open http://127.0.0.1:8000.  Classify files without a service:  "
    "csrn classify --support DIR photo.jpg, where DIR/<label>/ holds the examples.\n\n"
    "Make weights:  csrn prepare, then csrn train, then csrn evaluate.  Tab completion:  "
    "csrn --install-completion.  Settings are CSRN_* variables (README).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
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
cli.add_typer(bench, name="bench")


def main() -> None:
    """Entry point of the csrn script."""
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
        from csrn_client import ClientError  # takes a moment, which --help can save

        _fail(str(error) if isinstance(error, ClientError) else f"unexpected {type(error).__name__}: {error}")


def _fail(message: str) -> NoReturn:
    print(f"csrn: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(1)
