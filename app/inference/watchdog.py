"""Ends the process when a worker thread is broken; a supervisor starts it again.

No acknowledged write is lost, because it is in the store. A fresh process is easier to trust than one that
repairs itself (Candea and Fox, "Crash-only software", HotOS 2003).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from app.inference.engine import Engine

logger = logging.getLogger("csrn")

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal error"""
CHECK_EVERY_S = 0.2
LAST_ANSWERS_S = 1
"""Time in which failed requests get their answers"""


async def end_when_broken(engine: Engine, *, exit_process: Callable[[int], None]) -> None:
    """Wait for a fault, log it, fail the waiting requests, and end the process with EXIT_CODE."""
    while True:
        if fault := engine.fault:
            break
        await asyncio.sleep(CHECK_EVERY_S)
    logger.critical("the process ends with exit code %d: %s", EXIT_CODE, fault)
    engine.fail_all()
    await asyncio.sleep(LAST_ANSWERS_S)
    exit_process(EXIT_CODE)
