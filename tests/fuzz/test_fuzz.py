"""A short part of `make fuzz`, and a proof that the fuzzer notices what it looks for."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import load_target
from tests.fuzz.damage import TOKENS, damaged
from tests.fuzz.faulty import faulty
from tests.fuzz.limits import LimitExceeded, check


def fuzz(name: str, folder: Path) -> int:
    command = [sys.executable, "-m", "tests.fuzz", name, str(folder), "300", "0"]
    return subprocess.run(command, check=False).returncode


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("files:images", 300),
        ("files:archives", 500),
        ("files:checkpoints", 40),
        ("files:published_pairs", 40),
        ("api_requests:api_requests", 40),
    ],
)
def test_damaged_input_is_parsed_or_refused_within_limits(name: str, inputs: int) -> None:
    target, rng = load_target(name), random.Random(0)

    def mutate(part: bytes) -> bytes:
        at = rng.randint(0, len(part))
        inserted = rng.choice((b"", rng.randbytes(2), rng.choice(TOKENS)))
        return part[:at] + inserted + part[at + rng.choice((0, 1, 2, 10**6)) :]

    def damaged_seed() -> bytes:
        return damaged(rng.choice(target.seeds), rng, mutate, target.seeds)

    assert {check(target, damaged_seed()) for _ in range(inputs)} == {True, False}
    target.close()


def test_the_fuzzer_finds_inputs_that_reach_new_code(tmp_path: Path) -> None:
    assert fuzz("files:archives", tmp_path) == 0
    assert any((tmp_path / "corpus").iterdir())


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
    assert fuzz("faulty:faulty", tmp_path) != 0
    assert fault in (tmp_path / "log").read_text()
    assert data in [path.read_bytes() for path in tmp_path.glob("*-*")]
