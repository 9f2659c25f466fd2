"""Limits on ratios of two times of one run, which depend little on the machine. make bench runs them.

The limits leave a wide margin to the ratios in docs/performance.md, because machines are noisy. They find a
change for the worse; docs/performance.md says which targets are met.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bench.score import bench_score
from app.bench.serve import bench_serve
from app.inference.device import choose_precision
from model.checkpoint import load_checkpoint
from tests.support.samples import SAMPLES

pytestmark = pytest.mark.bench
DTYPE = choose_precision("auto", "cpu")


def test_a_stored_session_scores_many_times_faster_than_the_plain_formula(shipped_weights: Path) -> None:
    figures = bench_score(load_checkpoint(shipped_weights), DTYPE)
    single = {(figure.way, figure.shot): figure.ratio for figure in figures if figure.batch == 1}
    assert single[3, 3] > 6
    assert single[20, 10] > 40


def test_the_service_adds_little_to_the_time_of_faces_and_network(shipped_weights: Path) -> None:
    report = bench_serve(load_checkpoint(shipped_weights), SAMPLES, encoder_dtype=DTYPE, seconds=4)
    small = {figure.clients: figure for figure in report.figures if figure.size_px == (350, 350)}
    assert small[16].share_of_bound > 0.4
    assert small[16].p99_ms < 5 * small[16].p50_ms
    assert small[1].p50_to_face < 5
    assert all(figure.failed == 0 for figure in report.figures)
    # Large images add what the allocator keeps, whatever the size of the process.
    assert report.last_rss_mb < report.warm_rss_mb + 100
    assert report.http.cpu_to_face < 0.45
    assert report.http.longest_pause_ms < 0.9 * report.http.large_answer_ms
    assert sum(part.share for part in report.parts) == pytest.approx(1)
