"""A short share of `make fuzz`, and that the fuzzer sees what it is there to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.api_target import Requests
from tests.fuzz.archive_targets import Archives, Checkpoints
from tests.fuzz.faulty import Faulty
from tests.fuzz.image_targets import Faces, Images
from tests.fuzz.large_images import PIXELS, LargeImages, LargeWebp
from tests.fuzz.pth_target import PublishedPairs
from tests.fuzz.run import Tally, fuzz
from tests.fuzz.target import MIB, Target
from tests.fuzz.targets import TARGETS


def tally_of(target: type[Target], count: int, keep: Path, *, hangs_after_s: float = 60) -> Tally:
    *_, tally = fuzz(target, seed=0, start=0, count=count, keep=keep, hangs_after_s=hangs_after_s)
    return tally


@pytest.mark.parametrize(
    ("target", "count"),
    [(Images, 300), (Faces, 20), (Requests, 40), (Archives, 500), (Checkpoints, 40), (PublishedPairs, 40)],
    ids=lambda value: getattr(value, "name", value),
)
def test_damaged_input_ends_as_documented(target: type[Target], count: int, tmp_path: Path) -> None:
    tally = tally_of(target, count, tmp_path)
    assert tally.findings == []
    assert (tally.inputs, tally.accepted + tally.rejected) == (count, count)
    assert tally.accepted > 0
    assert tally.rejected > 0


@pytest.mark.parametrize("target", [LargeImages, LargeWebp], ids=lambda target: target.name)
def test_a_large_image_is_held_about_once_while_it_is_decoded(
    target: type[LargeImages], tmp_path: Path
) -> None:
    tally = tally_of(target, len(target.formats), tmp_path)
    assert (tally.findings, tally.accepted) == ([], len(target.formats))
    # The measure sees at least the decoded image.
    assert tally.largest_mib * MIB > 3 * PIXELS


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_share_of_make_fuzz(name: str) -> None:
    assert TARGETS[name].share > 0


def test_a_crash_a_hang_and_other_faults_are_found_kept_and_gone_on_from(tmp_path: Path) -> None:
    tally = tally_of(Faulty, 10, tmp_path, hangs_after_s=2)
    assert [finding.partition(": ")[2] for finding in tally.findings] == [
        "died by signal 11",
        "KeyError: 'undocumented'",
        "hung for 2 s",
        "took 100 MiB",
        "warned: UserWarning: something is odd",
        "printed to stderr",
        tally.findings[6].partition(": ")[2],
    ]
    assert "s of processor time" in tally.findings[6]
    assert (tally.inputs, tally.accepted, tally.rejected) == (10, 2, 1)
    assert sorted(path.name for path in tmp_path.glob("*.bin")) == [f"faulty-0-{n}.bin" for n in range(1, 8)]
    assert (tmp_path / "faulty-0-2.bin").read_bytes() == b"\x02"
    # The native stack of the crash is kept with it.
    assert "string_at" in (tmp_path / "faulty-0-1.txt").read_text()


def test_an_input_is_the_same_for_the_same_numbers() -> None:
    target = Images()
    first = [target.input(7, index) for index in range(20)]
    assert first == [Images().input(7, index) for index in range(20)]
    assert len(set(first)) > 15
    assert first != [target.input(8, index) for index in range(20)]
