"""Ends the process when a worker thread is broken; a supervisor starts it again.

No acknowledged write is lost, because it is in the store. A fresh process is easier to trust than one that
repairs itself (Candea and Fox, "Crash-only software", HotOS 2003).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("csrn")

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal error"""
CHECK_EVERY_S = 0.2
LAST_ANSWERS_S = 1
"""Time in which failed requests get their answers"""


class Worker(Protocol):
    """Works on its own threads."""

    @property
    def fault(self) -> str | None:
        """Why it can do no more work, or None."""

    def fail_all(self) -> None:
        """Fail all waiting or running work."""


async def end_when_broken(worker: Worker, *, exit_process: Callable[[int], None]) -> None:
    """Wait for a fault, log it, fail the waiting requests, and end the process with EXIT_CODE."""
    while True:
        if fault := worker.fault:
            break
        await asyncio.sleep(CHECK_EVERY_S)
    logger.critical("the process ends with exit code %d: %s", EXIT_CODE, fault)
    worker.fail_all()
    await asyncio.sleep(LAST_ANSWERS_S)
    exit_process(EXIT_CODE)
