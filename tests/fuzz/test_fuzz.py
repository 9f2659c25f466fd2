"""A short part of `make fuzz`, and a proof that the fuzzer notices what it looks for."""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.__main__ import load_target
from tests.fuzz.damage import TOKENS, damaged
from tests.fuzz.limits import MIB, LimitExceeded, Target, check

FAULTS: dict[bytes, Callable[[], object]] = {
    b"crash": lambda: ctypes.string_at(0),
    b"hang": lambda: time.sleep(60),
    b"raise": lambda: dict[str, int]()["undocumented"],
    b"memory": lambda: bytearray(100 * MIB),
    b"warn": lambda: warnings.warn("unusual", stacklevel=1),
    b"print": lambda: print("noise", file=sys.stderr, flush=True),
    b"loop": lambda: sum(range(20_000_000)),
}


def faulty() -> Target:
    """A parser that fails in the way that the input names."""
    return Target(
        parse=lambda data: FAULTS.get(data, bool)(),
        refused=(),
        seeds=[b"fine"],
        memory_limit_bytes=64 * MIB,
        cpu_limit_s=0.2,
        hang_limit_s=1,
    )


def fuzz(name: str, folder: Path) -> tuple[int, str]:
    """Returns the exit code and the output of `make fuzz` for one target."""
    command = [sys.executable, "-m", "tests.fuzz", name, str(folder), "300", "0"]
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    return result.returncode, result.stdout + (folder / "log").read_text()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "name",
    ["files:images", "files:archives", "files:checkpoints", "files:published_pairs", "api:requests"],
)
def test_damaged_input_is_accepted_or_refused_within_limits(name: str) -> None:
    target, rng = load_target(name), random.Random(0)

    def mutate(part: bytes) -> bytes:
        at = rng.randint(0, len(part))
        inserted = rng.choice((b"", rng.randbytes(2), rng.choice(TOKENS)))
        return part[:at] + inserted + part[at + rng.choice((0, 1, 2, 10**6)) :]

    inputs = [damaged(rng.choice(target.seeds), rng, mutate, target.seeds) for _ in range(60)]
    assert {check(target, data) for data in target.seeds + inputs} == {True, False}
    target.close()


def test_the_fuzzer_keeps_inputs_that_reach_new_code(tmp_path: Path) -> None:
    status, output = fuzz("files:archives", tmp_path)
    assert (status, output.partition(",")[0]) == (0, "300 inputs")
    assert len(list((tmp_path / "corpus").iterdir())) > 2


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"raise", "undocumented"),
        (b"memory", "took 100 MiB of memory"),
        (b"warn", "warned: unusual"),
        (b"print", "printed to stderr"),
        (b"loop", "of processor time"),
    ],
)
def test_an_input_that_costs_too_much_or_complains_is_a_fault(data: bytes, fault: str) -> None:
    assert check(faulty(), b"fine")
    with pytest.raises((LimitExceeded, KeyError), match=fault):
        check(faulty(), data)


@pytest.mark.parametrize(
    ("data", "fault"),
    [(b"crash", "deadly signal"), (b"hang", "timeout after"), (b"raise", "KeyError: 'undocumented'")],
)
def test_a_crash_a_hang_and_an_exception_are_reported_and_their_input_is_kept(
    data: bytes, fault: str, tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "input").write_bytes(data)
    status, output = fuzz("test_fuzz:faulty", tmp_path)
    assert status != 0
    assert fault in output
    assert data in [path.read_bytes() for path in tmp_path.glob("*-*")]
