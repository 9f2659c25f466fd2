"""csrn bench score|serve."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.console import Json, StageBars, torch_device
from app.settings import Settings

SAMPLES = Path(__file__).parents[1] / "samples"
bench = typer.Typer(
    help="Measure this machine: ratios within one run, the plain way beside ours.", no_args_is_help=True
)


@bench.command()
def score(as_json: Json = False) -> None:
    """Scoring by a stored session, beside the plain formulation of the published code."""
    from app.bench.score import bench_score
    from app.inference.device import choose_precision
    from model.checkpoint import load_checkpoint

    settings, device = Settings(), torch_device()
    checkpoint = load_checkpoint(settings.weights, device=device)
    with StageBars() as bars:
        figures = bench_score(checkpoint, choose_precision(settings.precision, device), bars.show)
    if as_json:
        print(
            json.dumps({"weights_sha256": checkpoint.sha256, "figures": [*map(dataclasses.asdict, figures)]})
        )
        return
    table = Table(
        "way",
        "shot",
        "batch",
        "times faster",
        "µs a query",
        "of it encoding",
        "queries/s",
        "plain, µs a query",
    )
    for figure in figures:
        table.add_row(
            str(figure.way),
            str(figure.shot),
            str(figure.batch),
            f"{figure.ratio:.1f}",
            f"{figure.us_per_query:.0f}",
            f"{figure.encode_us_per_query:.0f}",
            f"{figure.queries_per_s:.0f}",
            f"{figure.plain_us_per_query:.0f}",
        )
    Console().print(table)


@bench.command()
def serve(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each number of clients asks")] = 8.0,
    images: Annotated[
        Path, typer.Option(help="Folder of <label>/<image>: three of a label teach, the rest ask")
    ] = SAMPLES,
    as_json: Json = False,
) -> None:
    """The service over HTTP, beside what decoding and finding the face alone cost."""
    import torch

    from app.bench.serve import bench_serve
    from app.inference.device import choose_precision
    from model.checkpoint import load_checkpoint

    settings, device = Settings(), torch_device()
    torch.set_num_threads(settings.network_threads)
    with StageBars() as bars:
        report = bench_serve(
            load_checkpoint(settings.weights, device=device),
            images,
            encoder_dtype=choose_precision(settings.precision, device),
            seconds=seconds,
            progress=bars.show,
        )
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
        return
    table = Table(
        "size",
        "clients",
        "of the bound",
        "p50 / face",
        "p99 / p50",
        "req/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "failed",
        "cores of service",
        "of client",
    )
    for figure in report.figures:
        table.add_row(
            "x".join(map(str, figure.size_px)),
            str(figure.clients),
            f"{figure.share_of_bound:.0%}",
            f"{figure.p50_to_face:.2f}",
            f"{figure.p99_ms / figure.p50_ms:.1f}",
            f"{figure.requests_per_s:.0f}",
            f"{figure.p50_ms:.1f}",
            f"{figure.p95_ms:.1f}",
            f"{figure.p99_ms:.1f}",
            str(figure.failed),
            f"{figure.service_cores:.2f}",
            f"{figure.client_cores:.2f}",
        )
    console = Console()
    console.print(table)
    for bound in report.bounds:
        console.print(
            f"{bound.size_px[0]}x{bound.size_px[1]}: decode and FaceMesh {bound.face_ms:.1f} ms, "
            f"{bound.faces_per_s:.0f} faces/s on {report.cores} cores; "
            f"network {bound.network_cpu_ms:.1f} ms of processor time; "
            f"bound {bound.queries_per_s:.0f} queries/s"
        )
    console.print(
        f"ready after {report.ready_s:.1f} s; "
        f"RSS {report.idle_rss_mb:.0f} MB idle, {report.warm_rss_mb:.0f} MB after the first size, "
        f"{report.last_rss_mb:.0f} MB after all {report.requests} requests"
    )
