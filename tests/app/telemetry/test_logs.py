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
from app.telemetry.logs import JsonFormatter, TextFormatter, format_error
from model.errors import CsrnError

MARK = "mark-of-a-label"


def record(message: str, *values: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("csrn.x", logging.INFO, "f.py", 1, message, values, None)
    made.created, made.fields = 1_800_000_000.1234, fields
    return made


def test_a_line_is_one_json_object() -> None:
    line = JsonFormatter().format(record("a %s\nb", "笑", status=200))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.123Z",
        "level": "info",
        "logger": "csrn.x",
        "message": "a 笑\nb",
        "status": 200,
    }


def test_a_line_of_text_has_the_same_fields() -> None:
    line = TextFormatter().format(record("request", status=200, key=None))
    assert line.endswith(":00:00 info: request status=200 key=None")


def _key_error() -> None:
    dict[str, int]()[MARK]


def _validation() -> None:
    pydantic.TypeAdapter(int).validate_python(MARK)


def _group() -> None:
    raise ExceptionGroup(MARK, [KeyError(MARK), ValueError(MARK)])


def _caused() -> None:
    try:
        _key_error()
    except KeyError as error:
        raise CsrnError("shown") from error


@pytest.mark.parametrize("fail", [_key_error, _validation, _group, _caused])
def test_a_traceback_shows_the_place_and_hides_messages_that_quote_input(fail: Any) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        fail()
    text = format_error(raised.value)
    assert fail.__name__ in text
    assert type(raised.value).__name__ in text
    assert MARK not in text
    failed = record("x")
    failed.exc_info = (type(raised.value), raised.value, None)
    assert json.loads(JsonFormatter().format(failed))["traceback"] == text


def test_a_traceback_shows_causes_first_and_the_messages_of_machine_faults() -> None:
    with pytest.raises(CsrnError) as raised:
        _caused()
    lines = format_error(raised.value).splitlines()
    assert lines[-1] == "model.errors.CsrnError: shown"
    assert "KeyError" in lines
    for error in (RuntimeError("CUDA out of memory"), OSError(28, "No space left")):
        assert format_error(error) == f"{type(error).__name__}: {error}"


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


def test_libraries_log_warnings_in_the_same_format_and_nothing_below() -> None:
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
