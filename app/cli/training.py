"""csrn prepare, train, evaluate and convert."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.cli.console import Json, StageBars, stderr, torch_device
from app.settings import Settings

if TYPE_CHECKING:
    from model.training.prepared import PreparedImages
    from model.training.report import Report

Classes = Annotated[str, typer.Option(help="Comma-separated labels; all of the data by default")]
AtLeastOne = Annotated[int, typer.Option(min=1)]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1)]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


class Labels(enum.StrEnum):
    original = "original"
    votes = "votes"


class Encoder(enum.StrEnum):
    conv4 = "conv4"
    resnet = "resnet"
    resnet_large = "resnet-large"


def _person(text: str | None) -> str | None:
    if text is not None:
        try:
            groups = re.compile(text).groups
        except re.error as error:
            raise typer.BadParameter(f"{text!r} is not a regular expression: {error}") from None
        if groups == 0:
            raise typer.BadParameter(f"{text!r} needs a group around the person, such as '(S[0-9]+)_'")
    return text


def prepare(
    dataset: Annotated[str, typer.Argument(help="fer2013 | rafdb | sfew | afew | folder")],
    source: Annotated[Path, typer.Argument(help="Folder, zip or CSV of the data set")],
    out: Annotated[Path, typer.Argument(help="Folder to write; an interrupted run is resumed")],
    votes: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="FER+ votes by file name, or FER+'s fer2013new.csv for fer2013.csv; "
            "the image files of fer2013 have theirs without it",
        ),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            callback=_person,
            help="Its first group, found in an image's path, names the person",
        ),
    ] = None,
    blendshapes: Annotated[
        Path | None,
        typer.Option(
            metavar="FACE_LANDMARKER.task",
            help="Add blendshapes by this bundle of MediaPipe's Face Landmarker",
        ),
    ] = None,
) -> None:
    """Find every face of a data set and cut its patches, ready for training.

    Run it again on a finished folder to add blendshapes, or to change votes or persons.
    """
    from model.training.datasets import DATASETS, open_dataset
    from model.training.datasets.votes import read_votes
    from model.training.prepare import prepare as prepare_dataset
    from model.training.prepare_blendshapes import check_task_file, prepare_blendshapes
    from model.training.prepared import DETECTIONS, load_prepared

    if dataset not in DATASETS:
        raise typer.BadParameter(f"known data sets: {', '.join(DATASETS)}")
    with open_dataset(dataset, source) as opened, StageBars() as bars:
        table_of_votes = None if votes is None else read_votes(votes, opened.images)
        if blendshapes is not None:
            check_task_file(blendshapes)
        report = prepare_dataset(
            opened,
            out,
            votes=table_of_votes,
            person=None if person is None else re.compile(person),
            progress=lambda done, total: bars.show("preparing", done, total),
        )
        if blendshapes is not None:
            prepare_blendshapes(
                opened,
                out,
                blendshapes,
                progress=lambda done, total: bars.show("blendshapes", done, total),
            )
    table = Table("label", "images", *(name.replace("_", " ") for name in DETECTIONS))
    for label, counts in sorted(report.items()):
        table.add_row(escape(label), str(counts.total()), *(str(counts[name]) for name in DETECTIONS))
    whole = sum(report.values(), Counter[str]())
    table.add_row("all", str(whole.total()), *(str(whole[name]) for name in DETECTIONS), style="bold")
    Console().print(table)
    _print_extras(load_prepared(out))


def train(
    data: Annotated[Path, typer.Argument(help="Output of csrn prepare")],
    out: Annotated[Path, typer.Option(help="Weights to write (.safetensors)")],
    split: Annotated[
        str | None, typer.Option(help="Split to train on; by default train, or all images if there is none")
    ] = None,
    classes: Classes = "",
    encoder: Annotated[
        Encoder, typer.Option(help="conv4 is the published one; resnet-large makes a teacher")
    ] = Encoder.resnet,
    teacher: Annotated[
        Path | None, typer.Option(help="Weights of a larger network for the encoder to learn from")
    ] = None,
    warmup_steps: Annotated[
        int, typer.Option(min=0, help="Supervised steps of the encoder; 0 trains it by episodes alone")
    ] = 6000,
    small_warmup_steps: Annotated[
        int,
        typer.Option(min=0, help="Supervised steps before those, on smaller patches: they cost half as much"),
    ] = 0,
    whole_learning_rate: Annotated[
        float, typer.Option(min=0, help="Highest learning rate of the supervised steps on whole patches")
    ] = 2e-3,
    warmup_batch: Annotated[int, typer.Option(min=1, help="Images in a supervised step")] = 80,
    steps: Annotated[int, typer.Option(min=1, help="Steps of episodes")] = 500,
    way: AtLeastOne = 5,
    shot: AtLeastOne = 4,
    query: AtLeastOne = 3,
    episodes_per_step: Annotated[int, typer.Option(min=1)] = 4,
    label_episodes: Annotated[
        bool,
        typer.Option(help="Draw the classes of some episodes from the labels and votes, not only clusters"),
    ] = True,
    seed: Seed = 0,
    bfloat16: Annotated[bool, typer.Option(help="Compute in bfloat16")] = True,
    run: Annotated[Path | None, typer.Option(help="Folder of the run's state and TensorBoard curves")] = None,
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps between measuring and saving the run's state")
    ] = 250,
) -> None:
    """Train weights. An interrupted run resumes where it stopped; torchrun trains on several devices.

    On two GPUs: torchrun --nproc-per-node 2 --no-python csrn train DATA --out WEIGHTS
    """
    from model.training.loop import Progress as TrainProgress
    from model.training.loop import rank_and_world
    from model.training.prepared import load_prepared, training_split
    from model.training.train import TrainSettings
    from model.training.train import train as train_weights

    split = split or training_split(data)
    images = load_prepared(data, split=split)
    chosen = _split_list(classes) or tuple(sorted(set(images.labels.tolist())))
    settings = TrainSettings(
        classes=chosen,
        encoder=encoder.value,
        warmup_steps=warmup_steps,
        small_warmup_steps=small_warmup_steps,
        whole_learning_rate=whole_learning_rate,
        warmup_batch=warmup_batch,
        steps=steps,
        way=way,
        shot=shot,
        query=query,
        episodes_per_step=episodes_per_step,
        label_episodes=label_episodes,
        seed=seed,
        bfloat16=bfloat16,
    )
    with _device_of_process() as device, StageBars() as bars:

        def show(progress: TrainProgress) -> None:
            figures = f"loss {progress.loss:.3f}  accuracy {progress.accuracy:.3f}"
            bars.show(
                progress.stage,
                progress.step,
                progress.steps,
                description=f"{progress.stage}: {figures}",
            )
            if progress.held_out_accuracy is not None:
                held_out = f"held-out accuracy {progress.held_out_accuracy:.3f}"
                bars.console.print(
                    f"{progress.stage} step {progress.step}: {figures}  {held_out}", markup=False
                )

        train_weights(
            images,
            out,
            settings,
            trained_on=f"{data.name}, {split or 'all'} images of {', '.join(chosen)}",
            run_folder=run or out.with_suffix(".run"),
            teacher=teacher,
            device=device,
            save_every=save_every,
            progress=show,
        )
        if rank_and_world()[0] == 0:
            stderr.print(f"wrote {out}", markup=False)


def evaluate(
    data: Annotated[Path, typer.Argument(help="Output of csrn prepare")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights to measure; by default those that are served")
    ] = None,
    labels: Annotated[
        Labels,
        typer.Option(
            help="original: of the data set. votes: the majority of the annotators; images without one are "
            "skipped, and so, by default, are classes with too few images"
        ),
    ] = Labels.original,
    classes: Classes = "",
    split: Annotated[str | None, typer.Option(help="Split to use; all images by default")] = None,
    way: AtLeastOne = 3,
    shot: AtLeastOne = 3,
    query: AtLeastOne = 1,
    episodes: Annotated[int, typer.Option(min=2)] = 2000,
    seed: Seed = 0,
    personal: Annotated[
        bool,
        typer.Option(
            "--personal",
            help="All images of an episode show one person; otherwise no known person is both in the support "
            "set and among the queries",
        ),
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare on the same episodes with other weights, or with a baseline: cosine "
            "(nearest mean on the same encoder), geometry (its blendshapes alone) or landmarks "
            "(their principal components alone); repeatable"
        ),
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Measure each part of the class scores alone, and what it adds")
    ] = False,
    shot_curve: Annotated[str, typer.Option(help="More shots to measure, such as 1,3,5,10")] = "",
    confusion_png: Annotated[Path | None, typer.Option(help="Draw the confusion matrix here")] = None,
    record: Annotated[
        str | None, typer.Option(help="Note the figure in the weights' provenance by this name")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure few-shot accuracy over seeded episodes, with its 95% interval."""
    from model.checkpoint import record_evaluation
    from model.training.episodes import classes_with_enough
    from model.training.labels import label_by_votes
    from model.training.prepared import load_prepared
    from model.training.report import draw_confusion, measure_weights

    images = load_prepared(data, split=split)
    names = _split_list(classes)
    shots = _shots(shot_curve)
    if labels is Labels.votes:
        images = label_by_votes(images)
        names = names or classes_with_enough(
            images.labels,
            shot=max(shot, *shots) if shots else shot,
            query=query,
            groups=images.kin,
            persons=images.persons,
            personal=personal,
        )
    chosen = weights or Settings().weights
    with StageBars() as bars:
        report = measure_weights(
            images,
            chosen,
            classes=names or tuple(sorted(set(images.labels.tolist()))),
            way=way,
            shot=shot,
            query=query,
            episodes=episodes,
            seed=seed,
            personal=personal,
            against=against or (),
            parts=parts,
            shot_curve=shots,
            device=torch_device(),
            progress=bars.show,
        )
    summary = report.summary()
    if not as_json:
        _print_report(report)
    if confusion_png is not None:
        draw_confusion(report.evaluation, confusion_png)
    if record is not None:
        del summary["weights_sha256"]
        summary["weights_sha256"] = record_evaluation(chosen, record, summary)
    if as_json:
        print(json.dumps(summary))


def convert(
    feature_encoder: Annotated[Path, typer.Argument(metavar="FEATURE_ENCODER.pth")],
    relation_network: Annotated[Path, typer.Argument(metavar="RELATION_NETWORK.pth")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors")],
) -> None:
    """Convert a published checkpoint pair to one safetensors file."""
    from model.checkpoint import convert_published

    convert_published(feature_encoder, relation_network, out)
    print(f"wrote {out}")


def _print_extras(faces: PreparedImages) -> None:
    """One line that says how many of the faces have votes, a person and blendshapes."""
    persons = set(faces.persons.tolist()) - {""}
    taught = 0 if faces.all_blendshapes is None else int((faces.blendshapes()[:, 0] >= 0).sum())
    print(
        f"{len(faces)} faces: {int(faces.votes.any(axis=1).sum())} with votes, "
        f"{int((faces.persons != '').sum())} with a known person ({len(persons)} persons), "
        f"{taught} with blendshapes"
    )


def _print_report(report: Report) -> None:
    console, evaluation = Console(), report.evaluation
    labels = list(evaluation.confusion)
    table = Table("label", "recall", *map(escape, labels), title="predicted", title_justify="right")
    for label, row in evaluation.confusion.items():
        recall = evaluation.per_class.get(label)
        shown = "" if recall is None else f"{recall:.3f}"
        table.add_row(escape(label), shown, *(str(row[column]) for column in labels))
    console.print(table)
    for point in report.shot_curve:
        print(f"{point.shot}-shot: accuracy {_percent(point.accuracy, point.ci95)}")
    print(
        f"accuracy {_percent(evaluation.accuracy, evaluation.ci95)} "
        f"({evaluation.way}-way {evaluation.shot}-shot, {evaluation.episodes} episodes, "
        f"seed {evaluation.seed}, chance {100 / evaluation.way:.1f} %)"
    )
    for comparison in report.against:
        other, difference = comparison.evaluation, comparison.difference
        print(
            f"against {comparison.name}: {_percent(other.accuracy, other.ci95)}, "
            f"difference {_percent(difference.difference, difference.ci95)} on the same episodes"
        )
    if report.parts:
        _print_parts(console, report)
    if report.unknown is not None:
        unknown = report.unknown
        print(
            f"unknown ({unknown.way}-way {unknown.shot}-shot, one more class): "
            f"{100 * unknown.known_kept:.1f} % of the known queries kept, "
            f"{100 * unknown.absent_told:.1f} % of the others called unknown, AUROC {unknown.auroc:.3f}"
        )


def _print_parts(console: Console, report: Report) -> None:
    table = Table("part", "alone", "without it", "it adds")
    for name, part in report.parts.items():
        without = "" if part.without is None else f"{100 * part.without:.2f} %"
        added = "" if part.difference is None else _percent(part.difference.difference, part.difference.ci95)
        table.add_row(escape(name), f"{100 * part.alone:.2f} %", without, added)
    console.print(table)


def _percent(value: float, half_width: float) -> str:
    return f"{100 * value:.2f} % +- {100 * half_width:.2f}"


@contextlib.contextmanager
def _device_of_process() -> Iterator[str]:
    """The device to train on; under torchrun this process's own, with the others joined."""
    device = torch_device()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    import torch.distributed

    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        torch.distributed.destroy_process_group()


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (item.strip() for item in text.split(","))))


def _shots(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in _split_list(text))
    except ValueError:
        raise typer.BadParameter(f"--shot-curve needs numbers such as 1,3,5,10, not {text!r}") from None
