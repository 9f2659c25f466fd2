"""Collects the log lines that a part of a test causes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

from app.telemetry.logs import JsonFormatter


class LogLines:
    """Log lines as the service would write them in JSON."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@contextlib.contextmanager
def logged(level: int = logging.INFO) -> Iterator[LogLines]:
    """Collect the lines of the service from this level up, and the warnings of libraries."""
    log, service = LogLines(), logging.getLogger("csrn")
    handler, level_before = logging.StreamHandler(log.stream), service.level
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    service.setLevel(level)
    try:
        yield log
    finally:
        logging.getLogger().removeHandler(handler)
        service.setLevel(level_before)
