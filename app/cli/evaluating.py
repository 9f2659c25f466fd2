"""csrn evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from app.cli.console import StageBars, cell, stderr, stdout
from app.cli.options import (
    Classes,
    Device,
    Json,
    Query,
    Seed,
    Shot,
    Way,
    chosen_classes,
    read_settings,
    split_list,
)

if TYPE_CHECKING:
    from model.training.report import Report

CONFUSED_PAIRS = 4


def evaluate(
    data: Annotated[Path, typer.Argument(help="Output of csrn prepare")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights to measure; by default those that csrn serve uses")
    ] = None,
    labels: Annotated[
        Literal["original", "votes"],
        typer.Option(
            help="original: the data set's labels. votes: the majority of the annotators; images without a "
            "majority are skipped, and by default so are classes with too few images"
        ),
    ] = "original",
    classes: Classes = "",
    split: Annotated[str | None, typer.Option(help="Split to use; all images by default")] = None,
    way: Way = 3,
    shot: Shot = 3,
    query: Query = 1,
    episodes: Annotated[int, typer.Option(min=2, help="Number of episodes")] = 2000,
    seed: Seed = 0,
    personal: Annotated[
        bool,
        typer.Option(
            "--personal",
            help="Show one person in all images of an episode; otherwise no known person is both in the "
            "support set and among the queries",
        ),
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare on the same episodes with other weights, or with a baseline: cosine "
            "(nearest class mean on the same encoder) or geometry (blendshapes alone); repeatable"
        ),
    ] = None,
    parts: Annotated[
        bool,
        typer.Option("--parts", help="Measure each part of the class scores alone, and its contribution"),
    ] = False,
    shot_curve: Annotated[str, typer.Option(help="Further shots to measure, such as 1,3,5,10")] = "",
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page for people: confusion matrix, accuracy by shots, part by part, and the most "
            "confused pairs with pictures of faces. Without --shot-curve it measures the shots 1, 2, 3, 5 "
            "and 10 that the data allows",
        ),
    ] = None,
    record: Annotated[
        str | None, typer.Option(help="Record the result in the provenance of the weights under this name")
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure few-shot accuracy over seeded episodes, with a 95% interval."""
    if report is not None:
        _check_report(report)
    from app.inference.device import choose_device, compute_in_float32
    from model.checkpoint import record_evaluation
    from model.training.episodes import classes_with_enough
    from model.training.prepared import load_prepared
    from model.training.report import measure_weights
    from model.training.targets import label_by_votes

    compute_in_float32()
    images = load_prepared(data, split=split)
    shots = _shots(shot_curve)
    if labels == "votes":
        images = label_by_votes(images)
    names = chosen_classes(classes, images)
    if labels == "votes" and not split_list(classes):
        names = classes_with_enough(
            images.labels,
            shot=max([shot, *shots]),
            query=query,
            groups=images.kin,
            persons=images.persons,
            personal=personal,
        )
    settings = read_settings(weights=weights, device=device)
    with StageBars() as bars:
        measured = measure_weights(
            images,
            settings.weights,
            classes=names,
            way=way,
            shot=shot,
            query=query,
            episodes=episodes,
            seed=seed,
            personal=personal,
            against=against or (),
            parts=parts or report is not None,
            shot_curve=shots or (() if report is None else None),
            confused_pairs=0 if report is None else CONFUSED_PAIRS,
            device=choose_device(settings.device),
            progress=bars.show,
        )
    summary = measured.summary()
    if not as_json:
        _print_report(measured)
    if report is not None:
        from model.training.report_page import write_report

        about = {
            "weights": settings.weights.name,
            "data": f"{data.name}, {split or 'all'} images",
            "labels": labels,
        }
        write_report(measured, report, settings=about)
        stderr.print(f"wrote {report}")
    if record is not None:
        del summary["weights_sha256"]
        summary["weights_sha256"] = record_evaluation(settings.weights, record, summary)
    if as_json:
        print(json.dumps(summary))


def _check_report(path: Path) -> None:
    """Refuse a report that could not be written, before anything is measured."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"--report writes an HTML page: end the name with .html, not {path.name!r}")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"--report: there is no folder {path.parent}")


def _print_report(report: Report) -> None:
    """Print the report as tables and lines for people."""
    console, evaluation = stdout(), report.evaluation
    labels = list(evaluation.confusion)
    table = Table("label", "recall", *map(cell, labels), title="predicted", title_justify="right")
    for label, row in evaluation.confusion.items():
        recall = evaluation.per_class.get(label)
        shown = "" if recall is None else f"{recall:.3f}"
        table.add_row(cell(label), shown, *(str(row[column]) for column in labels))
    console.print(table)
    for point in report.shot_curve:
        print(f"{point.shot}-shot: accuracy {_percent(point.accuracy, point.ci95)}")
    print(
        f"accuracy {_percent(evaluation.accuracy, evaluation.ci95)} "
        f"({evaluation.way}-way {evaluation.shot}-shot, {evaluation.episodes} episodes, "
        f"seed {evaluation.seed}, chance {100 / evaluation.way:.1f} %)"
    )
    for comparison in report.against:
        other = comparison.evaluation
        print(
            f"against {comparison.name}: {_percent(other.accuracy, other.ci95)}, "
            f"difference {_percent(comparison.difference, comparison.difference_ci95)} on the same episodes"
        )
    if report.parts:
        table = Table("part", "alone", "without it", "contribution")
        for name, part in report.parts.items():
            without = gain = ""
            if part.without is not None and part.difference is not None and part.difference_ci95 is not None:
                without = f"{100 * part.without:.2f} %"
                gain = _percent(part.difference, part.difference_ci95)
            table.add_row(cell(name), f"{100 * part.alone:.2f} %", without, gain)
        console.print(table)
    if report.unknown is not None:
        unknown = report.unknown
        print(
            f"unknown ({unknown.way}-way {unknown.shot}-shot, one absent class): "
            f"{100 * unknown.known_kept:.1f} % of the known queries kept, "
            f"{100 * unknown.absent_told:.1f} % of the others called unknown, AUROC {unknown.auroc:.3f}"
        )


def _percent(value: float, half_width: float) -> str:
    return f"{100 * value:.2f} % +- {100 * half_width:.2f}"


def _shots(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in split_list(text))
    except ValueError:
        raise typer.BadParameter(f"--shot-curve needs numbers such as 1,3,5,10, not {text!r}") from None
