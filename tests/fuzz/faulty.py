"""A parser that fails in every way that the fuzzer must notice."""

from __future__ import annotations

import ctypes
import sys
import time
import warnings

from tests.fuzz.limits import MIB, Target

FAULTS = {
    b"crash": lambda: ctypes.string_at(0),
    b"hang": lambda: time.sleep(60),
    b"raise": lambda: {}["undocumented"],
    b"memory": lambda: bytearray(100 * MIB),
    b"warn": lambda: warnings.warn("unusual", stacklevel=1),
    b"print": lambda: print("noise", file=sys.stderr, flush=True),
    b"loop": lambda: sum(range(20_000_000)),
}


def faulty() -> Target:
    return Target(
        parse=lambda data: FAULTS.get(data, bool)(),
        refused=(),
        seeds=[b"fine"],
        memory_limit_bytes=64 * MIB,
        cpu_limit_s=0.2,
        hang_limit_s=1,
    )
