"""How long a piece of work takes, measured by repeating it."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

MIN_CALLS = 3
Progress = Callable[[str, int, int], None]
"""Is called with the name of a stage, and how many of how many steps are done"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """The cost of one call."""

    median_ms: float
    """Wall time"""
    cpu_ms: float
    """Mean processor time of all threads of this process"""
    calls: int


def measure(work: Callable[[], object], *, for_s: float) -> Timing:
    """Repeat the work for some seconds, after one call that is not counted."""
    work()
    times_s: list[float] = []
    cpu_s = time.process_time()
    while len(times_s) < MIN_CALLS or sum(times_s) < for_s:
        start = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - start)
    cpu_s = time.process_time() - cpu_s
    return Timing(
        median_ms=statistics.median(times_s) * 1000, cpu_ms=cpu_s / len(times_s) * 1000, calls=len(times_s)
    )
