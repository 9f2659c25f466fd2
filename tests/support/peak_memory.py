"""The most memory that this process or another used over a stretch of code."""

from __future__ import annotations

import ctypes
from pathlib import Path

C_LIBRARY = ctypes.CDLL(None)


def reset_peak_memory(pid: int | str = "self") -> int:
    """Start a new peak, in this process without cached free memory. Returns the bytes in use."""
    C_LIBRARY.malloc_trim(0)
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return status_bytes("VmRSS", pid)


def peak_memory(pid: int | str = "self") -> int:
    """The most bytes in use since `reset_peak_memory`."""
    return status_bytes("VmHWM", pid)


def status_bytes(field: str, pid: int | str = "self") -> int:
    """A field of a process's /proc/PID/status, such as VmSize."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0]) * 1024
