"""The log of a stretch of a test, as it would stand on stderr."""

from __future__ import annotations

import io
import json
import logging
from types import TracebackType
from typing import Any

from app.telemetry.logs import JsonFormatter


class LogLines:
    """`lines`: what csrn logs inside of the with block, and warnings of everybody else."""

    def __init__(self, level: int = logging.INFO) -> None:
        self._stream = io.StringIO()
        self._handler = logging.StreamHandler(self._stream)
        self._handler.setFormatter(JsonFormatter())
        self._own, self._level = logging.getLogger("csrn"), level

    def __enter__(self) -> LogLines:
        logging.getLogger().addHandler(self._handler)
        self._level_before = self._own.level
        self._own.setLevel(self._level)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self._handler)
        self._own.setLevel(self._level_before)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]
