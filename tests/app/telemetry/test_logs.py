"""How lines look, and what tracebacks keep to themselves."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pydantic
import pytest

from app.settings import Settings
from app.telemetry.logs import JsonFormatter, TextFormatter, told_traceback
from app.telemetry.request_id import LOG_FIELDS
from model.errors import CsrnError

MARK = "mark-of-a-label"


def record(message: str, *values: object, **options: Any) -> logging.LogRecord:
    made = logging.LogRecord("csrn.x", logging.INFO, "f.py", 1, message, values, options.get("exc_info"))
    made.created = 1_800_000_000.1234
    made.fields = options.get("fields", {})
    return made


def test_a_line_is_one_json_object() -> None:
    ids = LOG_FIELDS.set({"request_id": "r"})
    try:
        line = JsonFormatter().format(record("a %s\nb", "笑", fields={"status": 200}))
    finally:
        LOG_FIELDS.reset(ids)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.123Z",
        "level": "info",
        "logger": "csrn.x",
        "message": "a 笑\nb",
        "request_id": "r",
        "status": 200,
    }


def test_text_holds_the_same() -> None:
    line = TextFormatter().format(record("request", fields={"status": 200, "key": None}))
    assert line.endswith(":00:00 info: request status=200 key=None")


class Model(pydantic.BaseModel):
    number: int


def _key_error() -> None:
    dict[str, int]()[MARK]


def _validation() -> None:
    Model.model_validate({"number": MARK})


def _unicode() -> None:
    (MARK + "\ud800").encode()


def _value_error() -> None:
    raise ValueError(MARK)


def _group() -> None:
    raise ExceptionGroup(MARK, [KeyError(MARK), ValueError(MARK)])


def _caused() -> None:
    try:
        _value_error()
    except ValueError as error:
        raise CsrnError("told") from error


@pytest.mark.parametrize("fail", [_key_error, _validation, _unicode, _value_error, _group, _caused])
def test_a_traceback_says_where_but_not_what_was_choked_on(fail: Any) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        fail()
    told = told_traceback(raised.value)
    assert fail.__name__ in told
    assert type(raised.value).__name__ in told
    assert MARK not in told
    line = JsonFormatter().format(record("x", exc_info=(None, raised.value, None)))
    assert json.loads(line)["traceback"] == told


def test_the_messages_of_machines_are_told_and_causes_come_first() -> None:
    with pytest.raises(CsrnError) as raised:
        _caused()
    lines = told_traceback(raised.value).splitlines()
    assert lines[-1] == "model.errors.CsrnError: told"
    assert "ValueError" in lines
    for error in (RuntimeError("CUDA out of memory"), OSError(28, "No space left")):
        assert told_traceback(error) == f"{type(error).__name__}: {error}"


LIBRARY_LINES = """
import logging, os, warnings
from app.telemetry.logs import set_up_logging
set_up_logging(log_format="json", level="debug")
logging.getLogger("websockets.server").debug("> Authorization: Bearer key")
logging.getLogger("python_multipart").info("filename")
logging.getLogger("uvicorn.error").warning("from uvicorn")
logging.getLogger("csrn").debug("from csrn")
warnings.warn("from a library")
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 2)
logging.getLogger("csrn").info("while a FaceMesh starts")
"""


def test_libraries_warn_the_same_way_and_say_no_more_at_any_level() -> None:
    run = subprocess.run([sys.executable, "-c", LIBRARY_LINES], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["uvicorn.error", "csrn", "py.warnings", "csrn"]
    assert "from a library" in lines[2]["message"]
    assert lines[3]["message"] == "while a FaceMesh starts"


def test_format_and_level_are_settings_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"CSRN_LOG_FORMAT": "JSON", "CSRN_LOG_LEVEL": "Warning", "HOME": "/"})
    settings = Settings()
    assert (settings.log_format, settings.log_level) == ("json", "warning")
    with pytest.raises(pydantic.ValidationError):
        Settings(log_level="loud")
