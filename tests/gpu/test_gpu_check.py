"""Tests of gpu-check itself that need no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.gpu.__main__ import LIMITS_S, TARGET_QUERIES_PER_S, main, missed
from tests.gpu.parts import PARTS


def gpu_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_with_one_clear_line() -> None:
    done = gpu_check()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gpu-check: no CUDA device is found\n"


def test_all_parts_together_take_less_than_eight_minutes() -> None:
    assert sum(LIMITS_S.values()) < 8 * 60


def test_a_dry_run_on_the_cpu_counts_operations_and_bytes() -> None:
    figures = PARTS["roofline"]("cpu")
    assert 0 < figures["share_of_peak_operations"] < 1
    assert figures["gflop_per_face"] == pytest.approx(0.167, rel=0.01)
    assert figures["mb_per_face"] > 1
    assert PARTS["memory"]("cpu")["support_set"] > 0


def test_each_part_runs_and_the_last_line_has_all_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.gpu", "--device", "cpu"])
    monkeypatch.setattr("tests.gpu.__main__.command", lambda part, device: ("echo", '{"figures": []}'))
    monkeypatch.setattr("tests.gpu.__main__.missed", lambda part, figures: {"fault": "it lives"}.get(part))
    assert main() == 1
    *lines, report = capsys.readouterr().out.splitlines()
    assert lines == [*(f"{part}: met" for part in LIMITS_S if part != "fault"), "fault: it lives"]
    assert json.loads(report).keys() == {"device", "torch", *LIMITS_S}
    assert json.loads(report)["device"] == "cpu (dry run)"


def test_the_scores_of_a_cpu_differ_from_themselves_by_the_encoders_precision_alone() -> None:
    figures = PARTS["parity"]("cpu")
    assert figures["missed"] is None
    assert figures["largest_difference"]["float32"] == 0
    assert 0 < figures["largest_difference"]["bfloat16"] < 0.02


@pytest.mark.bench
def test_a_broken_device_ends_the_process() -> None:
    """The error is a fake one: there is no GPU here."""
    figures = PARTS["fault"]("cpu")
    assert (figures["answer"], figures["exit_code"], figures["answer_after_restart"]) == (500, 70, 200)
    assert figures["reason_logged"]


@pytest.mark.parametrize(
    ("part", "figures", "reason"),
    [
        ("score", {"figures": [{"way": 3, "shot": 3, "queries_per_s": TARGET_QUERIES_PER_S}]}, None),
        (
            "score",
            {"figures": [{"way": 3, "shot": 3, "queries_per_s": 9}]},
            "9 queries/s at 3-way 3-shot, target 50000",
        ),
        ("serve", {"figures": [{"failed": 0}, {"failed": 2}]}, "2 requests failed"),
        ("memory", {"failed": "took more than 60 s"}, "took more than 60 s"),
        ("parity", {"missed": None}, None),
    ],
)
def test_a_missed_target_is_named(part: str, figures: dict[str, Any], reason: str | None) -> None:
    assert missed(part, figures) == reason
