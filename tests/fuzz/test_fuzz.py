"""A short part of `make fuzz`, and a proof that the fuzzer notices what it looks for."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.vision.images import decode_image
from tests.conftest import encoded
from tests.fuzz.__main__ import TARGETS, fuzz
from tests.fuzz.child import load_target
from tests.fuzz.damage import TOKENS, damaged
from tests.fuzz.faulty import Faulty
from tests.fuzz.limits import LimitExceeded, check, peak_memory, reset_peak_memory

WIDTH_PX, HEIGHT_PX = 4000, 3000


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "inputs"),
    [("images", 300), ("requests", 40), ("archives", 500), ("checkpoints", 40), ("pth", 40)],
)
def test_damaged_input_is_parsed_or_refused_within_limits(name: str, inputs: int) -> None:
    target, rng = load_target(TARGETS[name][0]), random.Random(0)

    def mutate(part: bytes) -> bytes:
        at = rng.randint(0, len(part))
        inserted = rng.choice((b"", rng.randbytes(2), rng.choice(TOKENS)))
        return part[:at] + inserted + part[at + rng.choice((0, 1, 2, 10**6)) :]

    seeds = target.seeds
    inputs_accepted = [check(target, damaged(rng.choice(seeds), rng, mutate, seeds)) for _ in range(inputs)]
    assert {*inputs_accepted} == {True, False}
    target.close()


def test_the_fuzzer_finds_inputs_that_reach_new_code(tmp_path: Path) -> None:
    assert fuzz(TARGETS["archives"][0], tmp_path, inputs=300, seed=0).startswith("300 inputs, ")
    assert "NEW    cov:" in (tmp_path / "log").read_text()
    assert any((tmp_path / "corpus").iterdir())


@pytest.mark.parametrize(("image_format", "bytes_per_pixel"), [("PNG", 8), ("JPEG", 8), ("WEBP", 18)])
def test_a_large_image_is_held_about_once_while_it_is_decoded(
    image_format: str, bytes_per_pixel: int
) -> None:
    ramp = np.add.outer(np.arange(HEIGHT_PX), np.arange(WIDTH_PX)).astype(np.uint8)
    image = Image.merge("RGB", [Image.fromarray(band) for band in (ramp, ramp[::-1].copy(), 255 - ramp)])
    data = encoded(image, image_format, compress_level=1, progressive=True, method=0)
    start_bytes = reset_peak_memory()
    assert decode_image(data).reduction == 2
    assert 3 < (peak_memory() - start_bytes) / (WIDTH_PX * HEIGHT_PX) < bytes_per_pixel


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
    assert check(Faulty(), b"fine")
    with pytest.raises((LimitExceeded, KeyError), match=fault):
        check(Faulty(), data)


@pytest.mark.parametrize(
    ("data", "fault"),
    [(b"crash", "deadly signal"), (b"hang", "timeout after"), (b"raise", "KeyError: 'undocumented'")],
)
def test_a_crash_a_hang_and_an_exception_are_reported_and_their_input_is_kept(
    data: bytes, fault: str, tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "input").write_bytes(data)
    result = fuzz("tests.fuzz.faulty:Faulty", tmp_path, inputs=1000, seed=0)
    assert result.startswith("failed with exit code")
    assert fault in result
    assert data in [path.read_bytes() for path in tmp_path.glob("*-*")]
