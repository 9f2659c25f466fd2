"""Limits on what one untrusted input may cost, and a check that an input stays within them."""

from __future__ import annotations

import ctypes
import os
import resource
import time
import warnings
from pathlib import Path

MIB = 2**20
FREE_ADDRESS_SPACE = 4096 * MIB
C_LIBRARY = ctypes.CDLL(None)


class Target:
    """A parser of untrusted bytes, with limits for one input."""

    memory_limit_bytes = 128 * MIB
    cpu_limit_s = 5.0
    hang_limit_s = 60
    may_print = False
    seeds: list[bytes]
    """Inputs from which the fuzzer makes damaged ones"""

    def accepts(self, data: bytes) -> bool:
        """Parse an input; False means refused with a documented error. Any exception is a fault."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what the target holds."""


class LimitExceeded(Exception):
    """An input cost too much, or parsing it warned or printed."""


def check(target: Target, data: bytes) -> bool:
    """Whether the target accepts an input. Raises: LimitExceeded, or what the target raises."""
    stderr_bytes, start_s, start_bytes = os.fstat(2).st_size, time.process_time(), reset_peak_memory()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        # Starlette leaves the files of a refused form to the garbage collector, which closes them at once.
        warnings.simplefilter("ignore", ResourceWarning)
        accepted = target.accepts(data)
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


def limit_address_space() -> None:
    """Keep a faulty parser from using up the memory of the machine."""
    limit = _status_bytes("VmSize") + FREE_ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def reset_peak_memory() -> int:
    """Start a new peak without cached free memory; returns the bytes in use."""
    C_LIBRARY.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def peak_memory() -> int:
    """The most bytes in use since `reset_peak_memory`."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0]) * 1024
