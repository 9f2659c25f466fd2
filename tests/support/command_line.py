"""The csrn command line, called in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path

import pytest

from app.cli import main


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """The result of a command."""

    code: int
    stdout: str
    stderr: str


def csrn(*arguments: str | Path) -> Ended:
    """Run csrn. Texts are split into words, paths are not."""
    words = [word for item in arguments for word in ([str(item)] if isinstance(item, Path) else item.split())]
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["csrn", *words])
        patch.setenv("COLUMNS", "200")
        patch.setenv("CSRN_DEVICE", "cpu")
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
    return Ended(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def csrn_succeeds(*arguments: str | Path) -> str:
    """Run csrn, and return what it printed to stdout."""
    ended = csrn(*arguments)
    assert ended.code == 0, ended.stderr
    return ended.stdout
