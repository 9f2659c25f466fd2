"""Gives a child process its inputs and notes what becomes of them: it may crash, hang or be killed."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.target import MIB, Target

HANGS_AFTER_S = 60.0
"""Of wall time; the limit on processor time is each target's own"""
START_WITHIN_S = 120.0
INPUTS_A_CHILD = 5000


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What became of the inputs of a target."""

    inputs: int = 0
    rejected: int = 0
    accepted: int = 0
    slowest_s: float = 0.0
    largest_mib: float = 0.0
    findings: list[str] = dataclasses.field(default_factory=list)
    """Input and fault"""


def fuzz(
    target: type[Target],
    *,
    seed: int,
    start: int,
    count: int,
    keep: Path,
    hangs_after_s: float = HANGS_AFTER_S,
) -> Iterator[Tally]:
    """Work on `count` inputs from number `start`; yields the tally after each.

    The input behind a finding is written to `keep`, with the fault beside it.
    """
    tally = Tally()
    at, end = start, start + count
    while at < end:
        for index, outcome in _child(target, seed, at, min(INPUTS_A_CHILD, end - at), hangs_after_s):
            at = index + 1
            tally.inputs += 1
            tally.slowest_s = max(tally.slowest_s, outcome.get("seconds", 0.0))
            tally.largest_mib = max(tally.largest_mib, outcome.get("grown", 0) / MIB)
            tally.rejected += outcome["outcome"] == "rejected"
            tally.accepted += outcome["outcome"] == "accepted"
            if outcome["outcome"] == "fault":
                name = f"{target.name}-{seed}-{index}"
                _keep(target, seed, index, keep / name, outcome["fault"])
                tally.findings.append(f"{name}: {outcome['fault'].strip().splitlines()[-1]}")
            yield tally


def _child(
    target: type[Target], seed: int, start: int, count: int, hangs_after_s: float
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Input number and outcome, until the child is through or one input was its last."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "tests.fuzz.child", f"{target.__module__}:{target.__qualname__}"]
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            [*command, str(seed), str(start), str(count), str(write)],
            pass_fds=[write],
            stdout=log,
            stderr=log,
        )
        os.close(write)
        begun, ended = -1, 0
        try:
            for line in _lines(read, hangs_after_s):
                told = json.loads(line)
                begun = told.get("begins", begun)
                if "ended" in told:
                    yield told["ended"], told
                    begun, ended = -1, ended + 1
            child.wait()
            how = f"died by signal {-child.returncode}"
        except TimeoutError:
            how = f"hung for {hangs_after_s:.0f} s"
        finally:
            child.kill()
            child.wait()
            os.close(read)
        log.seek(0)
        if begun >= 0:
            yield begun, {"outcome": "fault", "fault": f"{log.read()[-4000:]}\n{how}"}
        elif ended < count or child.returncode:
            raise RuntimeError(f"the child of {target.name} failed, {how}:\n{log.read()[-4000:]}")


def _lines(pipe: int, within_s: float) -> Iterator[str]:
    """Lines from a pipe to its end. Raises: TimeoutError where the next did not come in time."""
    told, limit_s = b"", START_WITHIN_S
    while True:
        line, newline, rest = told.partition(b"\n")
        if newline:
            told, limit_s = rest, within_s
            yield line.decode()
        elif not select.select([pipe], [], [], limit_s)[0]:
            raise TimeoutError
        elif more := os.read(pipe, 65536):
            told += more
        else:
            return


def _keep(target: type[Target], seed: int, index: int, path: Path, fault: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    instance = target()
    path.with_suffix(".bin").write_bytes(instance.input(seed, index))
    instance.close()
    path.with_suffix(".txt").write_text(fault + "\n")
