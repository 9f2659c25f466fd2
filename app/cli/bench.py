"""csrn bench score|serve."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from app.cli.console import StageBars, stdout
from app.cli.options import Device, DeviceName, Json, Weights, finite, read_settings

if TYPE_CHECKING:
    import torch

    from model.checkpoint import Checkpoint

SAMPLES = Path(__file__).parents[1] / "samples"
SCORE_COLUMNS = {
    "way": "{0.way}",
    "shot": "{0.shot}",
    "batch": "{0.batch}",
    "times faster": "{0.ratio:.1f}",
    "µs a query": "{0.us_per_query:.0f}",
    "of it encoding": "{0.encode_us_per_query:.0f}",
    "µs in many sessions": "{0.sessions_us_per_query:.0f}",
    "queries/s": "{0.queries_per_s:.0f}",
    "plain, µs a query": "{0.plain_us_per_query:.0f}",
}
SERVE_COLUMNS = {
    "size": "{0.size_px[0]}x{0.size_px[1]}",
    "clients": "{0.clients}",
    "of the bound": "{0.share_of_bound:.0%}",
    "p50 / face": "{0.p50_to_face:.2f}",
    "p99 / p50": "{0.p99_to_p50:.1f}",
    "req/s": "{0.requests_per_s:.0f}",
    "p50 ms": "{0.p50_ms:.1f}",
    "p95 ms": "{0.p95_ms:.1f}",
    "p99 ms": "{0.p99_ms:.1f}",
    "failed": "{0.failed}",
    "cores of service": "{0.service_cores:.2f}",
    "of client": "{0.client_cores:.2f}",
}
BOUND = (
    "{0.size_px[0]}x{0.size_px[1]}: decode and FaceMesh {0.face_ms:.1f} ms, {0.faces_per_s:.0f} faces/s "
    "on all cores; network {0.network_cpu_ms:.1f} ms of processor time; bound {0.queries_per_s:.0f} queries/s"
)
SUMMARY = (
    "{0.cores} cores; ready after {0.ready_s:.1f} s; RSS {0.idle_rss_mb:.0f} MB idle, {0.warm_rss_mb:.0f} MB "
    "after the first size, {0.last_rss_mb:.0f} MB after all {0.requests} requests"
)
PART_COLUMNS = {"part": "{0.name}", "ms": "{0.ms:.2f}", "share": "{0.share:.0%}"}
HTTP = (
    "without faces and network: {0.cpu_ms:.2f} ms of processor time a request, {0.cpu_ms_of_many:.2f} with "
    "16 clients, {0.cpu_to_face:.0%} of that of decode and FaceMesh; an answer for 64 images x 8 faces x 64 "
    "classes takes {0.large_answer_ms:.0f} ms, longest pause of the event loop {0.longest_pause_ms:.0f} ms"
)
bench = typer.Typer(
    help="Measure this machine. Compare ratios within one run, because machines differ.", no_args_is_help=True
)


@bench.command()
def score(weights: Weights = None, device: Device = None, as_json: Json = False) -> None:
    """Measure scoring by a stored session, compared with the formulation of the published code."""
    from app.bench.score import bench_score

    checkpoint, dtype = _load_weights(weights, device)
    with StageBars() as bars:
        figures = bench_score(checkpoint, dtype, bars.show)
    if as_json:
        print(
            json.dumps({"weights_sha256": checkpoint.sha256, "figures": [*map(dataclasses.asdict, figures)]})
        )
    else:
        _print_table(SCORE_COLUMNS, figures)


@bench.command()
def serve(
    seconds: Annotated[
        float, typer.Option(min=0.5, callback=finite, help="Duration for each number of clients")
    ] = 8.0,
    images: Annotated[
        Path,
        typer.Option(
            help="Folder of <label>/<image>: three images of each label are examples, the others queries"
        ),
    ] = SAMPLES,
    weights: Weights = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure the service over HTTP, compared with the cost of decoding, finding faces and the network."""
    from app.inference.freed_memory import keep_freed_memory

    keep_freed_memory()  # as the service does
    from app.bench.serve import bench_serve

    checkpoint, dtype = _load_weights(weights, device)
    with StageBars() as bars:
        report = bench_serve(checkpoint, images, encoder_dtype=dtype, seconds=seconds, progress=bars.show)
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
        return
    _print_table(SERVE_COLUMNS, report.figures)
    for bound in report.bounds:
        print(BOUND.format(bound))
    print(SUMMARY.format(report))
    alone = report.figures[0]
    print(f"\nWhere the {alone.p50_ms:.1f} ms of a request of one client at 350x350 go:")
    _print_table(PART_COLUMNS, report.parts)
    print(HTTP.format(report.http))


def _load_weights(weights: Path | None, device: DeviceName | None) -> tuple[Checkpoint, torch.dtype]:
    """The chosen weights on the chosen device, and the data type of the encoder."""
    import torch

    from app.inference.device import choose_device, choose_precision, compute_in_float32
    from model.checkpoint import load_checkpoint

    settings = read_settings(weights=weights, device=device)
    # The services that csrn bench serve starts use the same.
    os.environ |= {"CSRN_WEIGHTS": str(settings.weights), "CSRN_DEVICE": settings.device}
    chosen = choose_device(settings.device)
    torch.set_num_threads(settings.network_threads)
    compute_in_float32()
    return load_checkpoint(settings.weights, device=chosen), choose_precision(settings.precision, chosen)


def _print_table(columns: Mapping[str, str], figures: Sequence[object]) -> None:
    """columns: header to the format of a cell."""
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for figure in figures:
        table.add_row(*(cell.format(figure) for cell in columns.values()))
    stdout().print(table)
