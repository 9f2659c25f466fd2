"""Ends the process when it can no longer work; what supervises it starts it anew.

Nothing that was acknowledged is lost by that: it is in the store. A process that starts afresh is easier to
trust than one that repairs itself (Candea and Fox, "Crash-only software", HotOS 2003).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("csrn")

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal error"""
CHECK_EVERY_S = 1
LAST_ANSWERS_S = 2
"""For the answers to requests that failed, and for probes to see that the service is not alive"""


class Worker(Protocol):
    """Works on threads of its own."""

    @property
    def fault(self) -> str | None:
        """Why it can work no more, if it cannot."""

    def abandon(self) -> None:
        """Fail all work that waits or has begun."""


async def end_when_broken(worker: Worker, *, exit_process: Callable[[int], None]) -> None:
    """Wait for a fault, log it, let the waiting requests fail, and end the process with EXIT_CODE."""
    while True:
        if fault := worker.fault:
            break
        await asyncio.sleep(CHECK_EVERY_S)
    logger.critical("the process ends with exit code %d: %s", EXIT_CODE, fault)
    worker.abandon()
    await asyncio.sleep(LAST_ANSWERS_S)
    exit_process(EXIT_CODE)
