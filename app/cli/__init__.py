"""The csrn command line. Each command ends with exit code 0, 2 on bad usage, 1 on failure, 130 on Ctrl-C.

Heavy imports (torch, mediapipe) are made inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import pydantic
import typer

from app.cli import serving, training
from app.cli.bench import bench
from model.errors import CsrnError

cli = typer.Typer(
    name="csrn",
    help="Few-shot facial expression classification: teach a class with a handful of faces.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
for command in (
    serving.serve,
    serving.classify,
    training.prepare,
    training.train,
    training.evaluate,
    training.convert,
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
        first = error.errors()[0]
        _fail(f"CSRN_{'_'.join(str(part) for part in first['loc']).upper()}: {first['msg']}")
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error}")


def _fail(message: str) -> NoReturn:
    print(f"csrn: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(1)
