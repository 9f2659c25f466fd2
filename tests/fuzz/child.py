"""The process that works on the inputs, so that one that kills it is seen from outside.

It writes one line of JSON for each input that it begins and one for each that it ended, to the file
descriptor it is given.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.target import MIB, Target

CEILING_BYTES = 4096 * MIB
"""Of address space on top of what the target starts with: an input shall not take the machine down"""


def main(target: str, seed: str, start: str, count: str, report: str) -> None:
    """target: MODULE:CLASS of a Target."""
    faulthandler.enable()
    module, _, name = target.partition(":")
    fuzzed: Target = getattr(importlib.import_module(module), name)()
    fuzzed.accepts(fuzzed.input(int(seed), 0))  # What is imported or opened at first use is there now.
    _limit_address_space()
    with os.fdopen(int(report), "w", buffering=1) as lines:
        tell = _teller(lines)
        tell({"ready": os.getpid()})
        for index in range(int(start), int(start) + int(count)):
            data = fuzzed.input(int(seed), index)
            tell({"begins": index})
            tell({"ended": index, **work(fuzzed, data)})
    fuzzed.close()


def work(target: Target, data: bytes) -> dict[str, Any]:
    """How one input ends: accepted, rejected or a fault, with what it cost."""
    warned: list[str] = []
    warnings.simplefilter("always")
    # Starlette leaves the files of a refused form to the garbage collector, which closes them at once.
    warnings.simplefilter("ignore", ResourceWarning)
    warnings.showwarning = lambda message, kind, *_, **__: warned.append(f"{kind.__name__}: {message}")
    printed_before = os.fstat(2).st_size
    memory_before = _start_peak()
    began = time.process_time()
    fault = ""
    outcome = "rejected"
    try:
        outcome = "accepted" if target.accepts(data) else "rejected"
    except Exception:
        fault = traceback.format_exc(limit=-8)
    seconds = time.process_time() - began
    grown = _memory_bytes("VmHWM") - memory_before
    if not fault and warned:
        fault = f"warned: {warned[0]}"
    if not fault and not target.may_print and os.fstat(2).st_size > printed_before:
        fault = "printed to stderr"
    if not fault and seconds > target.may_take_s:
        fault = f"took {seconds:.1f} s of processor time"
    if not fault and grown > target.may_grow_bytes:
        fault = f"took {grown / MIB:.0f} MiB"
    return {
        "outcome": "fault" if fault else outcome,
        "fault": fault,
        "seconds": round(seconds, 4),
        "grown": grown,
    }


def _teller(lines: Any) -> Callable[[dict[str, Any]], None]:
    return lambda line: print(json.dumps(line), file=lines)


def _start_peak() -> int:
    """Begin to measure the peak anew; returns the memory in use."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_bytes("VmRSS")


def _memory_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


def _limit_address_space() -> None:
    ceiling = _memory_bytes("VmSize") + CEILING_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
