"""The log: one line for each event on stderr, as JSON or as text for a terminal."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import traceback
from typing import Any, Literal

from opentelemetry import trace

from app.telemetry.request_log import REQUEST_ID
from model.errors import CsrnError

LOGGED_MESSAGES = (OSError, RuntimeError, MemoryError, CsrnError)
"""Exceptions whose message the log shows; other exceptions may quote a label or a key in theirs"""


def set_up_logging(*, log_format: Literal["auto", "json", "text"], level: str) -> None:
    """Send every log line to stderr. The level is that of the service; libraries log only warnings.

    Below a warning, servers and parsers log paths, headers and file names.
    """
    # A copy, because file descriptor 2 is redirected to /dev/null while a FaceMesh starts.
    stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    service_level = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(service_level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("csrn").setLevel(service_level)
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = type(record.exc_info[1]).__qualname__
            line["traceback"] = format_error(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text, followed by the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record).astimezone():%H:%M:%S} {record.levelname.lower()}: {record.getMessage()}"
        line += "".join(f" {name}={value}" for name, value in _fields(record).items())
        if record.exc_info and record.exc_info[1]:
            line += "\n" + format_error(record.exc_info[1])
        return line


def format_error(error: BaseException) -> str:
    """The traceback of an error after those of its causes, without messages that may quote a request."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    message = f": {error}" if isinstance(error, LOGGED_MESSAGES) else ""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    before = format_error(cause) + "\n" if cause else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return before + frames + "\n".join([kind + message, *map(format_error, inner)])


def _time(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The ids of the current request and trace, and the fields of the event itself."""
    fields: dict[str, Any] = {}
    if request_id := REQUEST_ID.get(None):
        fields["request_id"] = request_id
    if (span := trace.get_current_span().get_span_context()).is_valid:
        fields["trace_id"] = trace.format_trace_id(span.trace_id)
    return {**fields, **getattr(record, "fields", {})}
