"""A target with every fault that the fuzzer is there to see, for its own test."""

from __future__ import annotations

import ctypes
import random
import sys
import time
import warnings

from tests.fuzz.target import MIB, Target


class Faulty(Target):
    """Does one of everything that must be noticed; the number of the input says which."""

    name, share = "faulty", 0.0
    may_grow_bytes = 64 * MIB
    may_take_s = 0.5

    def input(self, seed: int, index: int) -> bytes:
        return bytes((index,))

    def make(self, rng: random.Random) -> bytes:
        raise NotImplementedError

    def accepts(self, data: bytes) -> bool:
        match data[0]:
            case 1:
                ctypes.string_at(0)
            case 2:
                raise KeyError("undocumented")
            case 3:
                time.sleep(600)
            case 4:
                bytearray(100 * MIB)
            case 5:
                warnings.warn("something is odd", stacklevel=1)
            case 6:
                print("noise", file=sys.stderr, flush=True)
            case 7:
                until = time.process_time() + 0.6
                while time.process_time() < until:
                    pass
        return data[0] % 2 == 0
