"""A parser that fails in every way that the fuzzer must notice."""

from __future__ import annotations

import ctypes
import sys
import time
import warnings

from tests.fuzz.limits import MIB, Target


class Faulty(Target):
    """Fails in the way that the input names."""

    memory_limit_bytes, cpu_limit_s, hang_limit_s = 64 * MIB, 0.2, 1
    seeds = [b"fine"]

    def accepts(self, data: bytes) -> bool:
        match data:
            case b"crash":
                ctypes.string_at(0)
            case b"hang":
                time.sleep(60)
            case b"raise":
                raise KeyError("undocumented")
            case b"memory":
                bytearray(100 * MIB)
            case b"warn":
                warnings.warn("unusual", stacklevel=1)
            case b"print":
                print("noise", file=sys.stderr, flush=True)
            case b"loop":
                sum(range(20_000_000))
        return True
