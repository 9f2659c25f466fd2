from __future__ import annotations

from pathlib import Path

import click
import pytest
import typer

from app import VERSION
from app.cli import cli
from tests.support.command_line import csrn, csrn_succeeds


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CSRN_ALLOWED_ORIGINS", "*", "csrn: CSRN_ALLOWED_ORIGINS=* would let every web page"),
        (
            "CSRN_ALLOWED_ORIGINS",
            "https://a/",
            "csrn: CSRN_ALLOWED_ORIGINS: https://a/ is no origin: expected",
        ),
    ],
)
def test_a_service_with_an_unsafe_setting_does_not_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    ended = csrn("serve --port 0")
    assert (ended.code, ended.stderr.startswith(said)) == (1, True), ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--weights /nowhere.safetensors", "csrn: /nowhere.safetensors: No such file or directory"),
        ("--weights /dev/null", "csrn: /dev/null is not a safetensors file, or is truncated"),
        ("--weights /tmp", "csrn: /tmp: Is a directory"),
        ("--device cuda", "csrn: no CUDA device is found, but --device or CSRN_DEVICE is cuda"),
    ],
)
def test_options_replace_settings_and_a_bad_one_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path, options: str, said: str
) -> None:
    monkeypatch.setenv("CSRN_WEIGHTS", str(weights))
    monkeypatch.setenv("CSRN_STORE", f"sqlite:///{tmp_path}/s.sqlite3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = csrn("serve --port 0", options)
    faults = [line for line in ended.stderr.splitlines() if line.startswith("csrn: ")]
    assert (ended.code, faults) == (1, [said])


@pytest.mark.parametrize(
    ("name", "command"),
    typer.main.get_command(cli).commands.items(),  # type: ignore[attr-defined]
)
def test_every_option_and_argument_has_help(name: str, command: click.Command) -> None:
    commands = command.commands if isinstance(command, click.Group) else {name: command}
    for subcommand in commands.values():
        for parameter in subcommand.params:
            assert getattr(parameter, "help", None), f"csrn {name}: {subcommand.name} {parameter.name}"


def test_every_command_has_short_help_and_csrn_has_a_version() -> None:
    assert csrn_succeeds("--version") == f"csrn {VERSION}\n"
    for command in ("", "serve", "classify", "evaluate", "sessions", "sessions list", "bench serve"):
        assert "--help" in csrn_succeeds(command, "-h")
