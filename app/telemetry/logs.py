"""The log: one line an event on stderr, as JSON or for a terminal."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import traceback
from typing import Any, Literal

from app.telemetry.request_id import LOG_FIELDS
from model.errors import CsrnError

TELLING = (OSError, RuntimeError, MemoryError, CsrnError)
"""Errors whose message is logged: those of machines and libraries. Others quote what they choke on, which
may be a label."""


def set_up_logging(*, log_format: Literal["auto", "json", "text"], level: str) -> None:
    """Everything goes to stderr. level: of this service's own lines."""
    # A copy, because descriptor 2 points nowhere while a FaceMesh starts.
    stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root, own = logging.getLogger(), logging.getLogger("csrn")
    root.handlers = [handler]
    own.setLevel(level.upper())
    # Below a warning, servers and parsers tell paths, headers and file names.
    root.setLevel(max(own.level, logging.WARNING))
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message, the ids of the request, the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = type(record.exc_info[1]).__qualname__
            line["traceback"] = told_traceback(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The same for people: time, level, message, fields; a traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        told = [
            f"{_moment(record).astimezone():%H:%M:%S} {record.levelname.lower()}: {record.getMessage()}",
            *(f"{name}={value}" for name, value in _fields(record).items()),
        ]
        line = " ".join(told)
        if record.exc_info and record.exc_info[1]:
            line += "\n" + told_traceback(record.exc_info[1])
        return line


def told_traceback(error: BaseException) -> str:
    """Where an error and its causes came from, the last one last, with messages that may be told."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        message = f": {link}" if isinstance(link, TELLING) else ""
        kind = f"{type(link).__module__}.{type(link).__qualname__}".removeprefix("builtins.")
        inner = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        parts += [*(told_traceback(one) + "\n" for one in inner), f"{kind}{message}\n"]
        parts += ["".join(traceback.format_tb(link.__traceback__))]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "".join(reversed(parts)).rstrip()


def _moment(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**LOG_FIELDS.get({}), **getattr(record, "fields", {})}
