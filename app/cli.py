"""The csrn command line. Each command ends with exit code 0, 2 on bad usage, 1 on failure."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import pydantic
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from app.settings import Settings
from model.errors import CsrnError

# Heavy imports (torch, mediapipe) are made inside the commands, so that --help answers at once.

cli = typer.Typer(
    name="csrn",
    help="Few-shot facial expression classification: teach a class with a handful of faces.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
stderr = Console(stderr=True)
Classes = Annotated[str, typer.Option(help="Comma-separated labels; all of the data by default")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line")]


def main() -> None:
    """Entry point of the csrn script."""
    try:
        cli()
    except CsrnError as error:
        _fail(str(error))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        _fail(f"CSRN_{'_'.join(str(part) for part in first['loc']).upper()}: {first['msg']}")
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _fail("interrupted")


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on", min=0, max=65535)] = 8000,
) -> None:
    """Serve the HTTP API. Settings come from CSRN_* variables."""
    import uvicorn

    from app.main import create_app

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    # Once drained, uvicorn raises the signal again for whoever handled it before: that is a good end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(create_app(Settings()), host=host, port=port, log_level="warning")


@cli.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="fer2013 | folder")],
    source: Annotated[Path, typer.Argument(help="Folder or zip of the data set")],
    out: Annotated[Path, typer.Argument(help="Folder to write; an unfinished one is gone on with")],
) -> None:
    """Find every face of a data set and cut its patches, ready for training."""
    from model.training.datasets import DATASETS, open_dataset
    from model.training.prepare import prepare as prepare_dataset

    if dataset not in DATASETS:
        raise typer.BadParameter(f"known data sets: {', '.join(sorted(DATASETS))}")
    with open_dataset(dataset, source) as opened, _progress_bar() as bar:
        row = bar.add_task("preparing", total=len(opened.images))
        report = prepare_dataset(
            opened, out, progress=lambda done, total: bar.update(row, completed=done, total=total)
        )
    table = Table("label", "images", *(columns := sorted({key for c in report.values() for key in c})))
    for label, counts in sorted(report.items()):
        table.add_row(label, str(counts.total()), *(str(counts[column]) for column in columns))
    Console().print(table)


@cli.command()
def train(
    data: Annotated[Path, typer.Argument(help="Output of csrn prepare")],
    out: Annotated[Path, typer.Option(help="Weights to write (.safetensors)")],
    split: Annotated[str | None, typer.Option(help="Split to train on; all by default")] = None,
    classes: Classes = "",
    way: int = 4,
    shot: int = 4,
    query: int = 4,
    steps: int = 2500,
    episodes_per_step: int = 4,
    seed: int = 0,
    bfloat16: Annotated[bool, typer.Option(help="Compute in bfloat16")] = True,
    run: Annotated[Path | None, typer.Option(help="Folder of the run's state and TensorBoard curves")] = None,
) -> None:
    """Train weights by episodes. A stopped run goes on where it was."""
    from model.training.prepare import load_prepared
    from model.training.train import Progress as TrainProgress
    from model.training.train import TrainSettings
    from model.training.train import train as train_weights

    images = load_prepared(data, split=split)
    chosen = _split_classes(classes) or tuple(sorted(set(images.labels.tolist())))
    settings = TrainSettings(
        classes=chosen,
        way=way,
        shot=shot,
        query=query,
        steps=steps,
        episodes_per_step=episodes_per_step,
        seed=seed,
        bfloat16=bfloat16,
    )
    with _progress_bar() as bar:
        row = bar.add_task("training", total=steps)

        def show(progress: TrainProgress) -> None:
            bar.update(
                row,
                completed=progress.step,
                description=f"loss {progress.loss:.3f}  accuracy {progress.accuracy:.3f}",
            )
            if progress.held_out_accuracy is not None:
                bar.console.print(f"step {progress.step}: held-out accuracy {progress.held_out_accuracy:.3f}")

        train_weights(
            images,
            out,
            settings,
            trained_on=f"{data.name}, {split or 'all'} images of {', '.join(chosen)}",
            run_folder=run or out.with_suffix(".run"),
            device=_torch_device(),
            progress=show,
        )


@cli.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Output of csrn prepare")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights to measure; by default those that are served")
    ] = None,
    classes: Classes = "",
    split: Annotated[str | None, typer.Option(help="Split to use; all images by default")] = None,
    way: int = 3,
    shot: int = 3,
    query: int = 1,
    episodes: Annotated[int, typer.Option(min=2)] = 2000,
    seed: int = 0,
    record: Annotated[
        str | None, typer.Option(help="Note the figure in the weights' provenance by this name")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure few-shot accuracy over seeded episodes, with its 95% interval."""
    from model.checkpoint import load_checkpoint
    from model.classifier import Classifier
    from model.training.evaluate import evaluate as evaluate_weights
    from model.training.prepare import load_prepared

    chosen = weights or Settings().weights
    images = load_prepared(data, split=split)
    with _progress_bar() as bar:
        rows = {stage: bar.add_task(stage, total=None) for stage in ("encoding", "episodes")}
        result = evaluate_weights(
            Classifier(load_checkpoint(chosen, device=_torch_device())),
            images,
            classes=_split_classes(classes) or tuple(sorted(set(images.labels.tolist()))),
            way=way,
            shot=shot,
            query=query,
            episodes=episodes,
            seed=seed,
            progress=lambda stage, done, total: bar.update(rows[stage], completed=done, total=total),
        )
    if record is not None:
        _record(chosen, record, dataclasses.asdict(result))
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    table = Table("label", "recall")
    for label, recall in result.per_class.items():
        table.add_row(label, f"{recall:.3f}")
    Console().print(table)
    print(
        f"accuracy {100 * result.accuracy:.2f} % +- {100 * result.ci95:.2f} "
        f"({way}-way {shot}-shot, {episodes} episodes, seed {seed}, chance {100 / way:.1f} %)"
    )


@cli.command()
def convert(
    feature_encoder: Annotated[Path, typer.Argument(metavar="FEATURE_ENCODER.pth")],
    relation_network: Annotated[Path, typer.Argument(metavar="RELATION_NETWORK.pth")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors")],
) -> None:
    """Convert a published checkpoint pair to one safetensors file."""
    from model.checkpoint import convert_published

    convert_published(feature_encoder, relation_network, out)
    print(f"wrote {out}")


@cli.command()
def classify(
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="Images")],
    support: Annotated[Path, typer.Option(help="Folder of <label>/<image> examples")],
    unknown_below: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score under which no class is predicted")
    ] = None,
    all_faces: Annotated[bool, typer.Option("--all-faces", help="Answer for each face")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One Result of the API a line")] = False,
) -> None:
    """Classify images by the examples in a folder."""
    from app.classify_files import LabelledFile, classify_files
    from app.engine import Upload
    from app.schemas import normalized_label
    from model.training.datasets import open_dataset

    with open_dataset("folder", support) as dataset:
        examples = [
            LabelledFile(
                label=normalized_label(image.label),
                upload=Upload(filename=image.source, data=dataset.read(image)),
            )
            for image in dataset.images
        ]
    uploads = [Upload(filename=str(path), data=path.read_bytes()) for path in queries]
    results = asyncio.run(
        classify_files(
            Settings(),
            support=examples,
            queries=uploads,
            unknown_below=unknown_below,
            all_faces=all_faces,
            on_rejected=lambda name, error: stderr.print(f"{name} is no example: {error}"),
        )
    )
    if as_json:
        for result in results.results:
            print(result.model_dump_json(exclude_unset=True))
    else:
        for result in results.results:
            _print_result(result)
    if all(result.error for result in results.results):
        raise typer.Exit(1)


def _print_result(result: object) -> None:
    from app.schemas import Result

    assert isinstance(result, Result)
    console = Console()
    if result.error:
        console.print(f"{result.filename}: {result.error.detail}")
    elif not result.faces:
        console.print(f"{result.filename}: no face was found")
    for face in result.faces:
        columns = [*face.scores[0].parts.model_dump()]
        table = Table(
            "label",
            "score",
            *columns,
            title=f"{result.filename}: {face.predicted or 'unknown'}",
            title_justify="left",
        )
        for score in face.scores:
            parts = (f"{value:.3f}" for value in score.parts.model_dump().values())
            table.add_row(score.label, f"{score.score:.3f}", *parts)
        console.print(table)


def _record(weights: Path, name: str, figures: dict[str, object]) -> None:
    """Write measured figures into a checkpoint; they are of its tensors, which stay as they are."""
    from model.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(weights)
    del figures["weights_sha256"]
    evaluation = {**checkpoint.provenance.evaluation, name: figures}
    provenance = checkpoint.provenance.model_copy(update={"evaluation": evaluation})
    save_checkpoint(weights, checkpoint.network, config=checkpoint.config, provenance=provenance)


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr,
    )


def _split_classes(classes: str) -> tuple[str, ...]:
    return tuple(filter(None, (label.strip() for label in classes.split(","))))


def _torch_device() -> str:
    from app.main import choose_device

    return choose_device(Settings().device)


def _fail(message: str) -> NoReturn:
    print(f"csrn: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(1)
