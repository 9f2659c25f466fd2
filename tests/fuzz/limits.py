"""A parser of untrusted bytes, and a check that an input stays within the parser's limits."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable

from tests.support.peak_memory import peak_memory, reset_peak_memory

MIB = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A parser, and what one input may cost."""

    parse: Callable[[bytes], object]
    refused: type[Exception] | tuple[type[Exception], ...]
    """Documented errors. Any other exception is a fault."""
    seeds: list[bytes]
    """Inputs from which the fuzzer makes damaged ones"""
    memory_limit_bytes: int = 256 * MIB
    cpu_limit_s: float = 5
    hang_limit_s: int = 60
    may_print: bool = False
    close: Callable[[], object] = lambda: None
    """Frees what the parser holds"""


class LimitExceeded(Exception):
    """An input cost too much, or parsing it warned or printed."""


def check(target: Target, data: bytes) -> bool:
    """Whether an input is accepted. Raises: LimitExceeded, or what the parser raises."""
    stderr_bytes, start_s, start_bytes = os.fstat(2).st_size, time.process_time(), reset_peak_memory()
    accepted = True
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        # Starlette leaves the files of a refused form to the garbage collector, which closes them at once.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            target.parse(data)
        except target.refused:
            accepted = False
    cpu_s, memory_bytes = time.process_time() - start_s, peak_memory() - start_bytes
    if warned:
        raise LimitExceeded(f"warned: {warned[0].message}")
    if not target.may_print and os.fstat(2).st_size > stderr_bytes:
        raise LimitExceeded("printed to stderr")
    if cpu_s > target.cpu_limit_s:
        raise LimitExceeded(f"took {cpu_s:.1f} s of processor time")
    if memory_bytes > target.memory_limit_bytes:
        raise LimitExceeded(f"took {memory_bytes / MIB:.0f} MiB of memory")
    return accepted
