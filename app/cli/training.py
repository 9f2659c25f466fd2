"""csrn train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.console import StageBars, stderr
from app.cli.options import Classes, Device, Query, Seed, Shot, Way, chosen_classes, finite, read_settings


def train(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Output of csrn prepare")],
    out: Annotated[Path, typer.Option(help="Weights to write (.safetensors)")],
    split: Annotated[
        str | None,
        typer.Option(help="Split to train on; by default train, or all images without such a split"),
    ] = None,
    classes: Classes = "",
    encoder: Annotated[
        Literal["conv4", "resnet", "resnet-large"],
        typer.Option(help="conv4 is the published encoder; resnet-large makes a teacher"),
    ] = "resnet",
    teacher: Annotated[
        Path | None, typer.Option(help="Weights of a larger network that teaches the encoder")
    ] = None,
    warmup_steps: Annotated[
        int, typer.Option(min=0, help="Supervised steps of the encoder; 0 trains it by episodes alone")
    ] = 4800,
    small_warmup_steps: Annotated[
        int,
        typer.Option(min=0, help="Supervised steps before those, on smaller patches, in half the time"),
    ] = 0,
    whole_learning_rate: Annotated[
        float,
        typer.Option(
            min=0, callback=finite, help="Highest learning rate of the supervised steps on full-size patches"
        ),
    ] = 2e-3,
    warmup_batch: Annotated[int, typer.Option(min=1, help="Images in a supervised step")] = 160,
    steps: Annotated[int, typer.Option(min=1, help="Steps of episodes")] = 500,
    way: Way = 5,
    shot: Shot = 4,
    query: Query = 3,
    episodes_per_step: Annotated[int, typer.Option(min=1, help="Episodes in a step")] = 4,
    label_episodes: Annotated[
        bool,
        typer.Option(help="Draw the classes of some episodes from labels and votes, not from clusters alone"),
    ] = True,
    teacher_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            callback=finite,
            help="Weight of the teacher's prediction in a soft target; "
            "its feature maps have 1 minus this weight",
        ),
    ] = 0.0,
    votes_weight: Annotated[
        float,
        typer.Option(
            min=0,
            callback=finite,
            help="Weight of the votes part; lower it for classes that annotators could not choose",
        ),
    ] = 1.0,
    seed: Seed = 0,
    bfloat16: Annotated[bool, typer.Option(help="Compute in bfloat16")] = True,
    run: Annotated[
        Path | None, typer.Option(help="Folder for the state of the run and TensorBoard curves")
    ] = None,
    save_every: Annotated[
        int, typer.Option(min=1, help="Measure and save the state of the run after this many steps")
    ] = 250,
    device: Device = None,
) -> None:
    """Train weights. An interrupted run resumes where it stopped."""
    from app.inference.device import choose_device
    from model.training.inputs import TrainSettings
    from model.training.loop import Progress as TrainProgress
    from model.training.prepared import load_prepared, training_split
    from model.training.train import train as train_weights

    split = split or training_split(data)
    images = load_prepared(data, split=split)
    chosen = chosen_classes(classes, images)
    # The options have the names of the settings.
    given = {field.name: context.params.get(field.name) for field in dataclasses.fields(TrainSettings)}
    settings = TrainSettings(
        **{name: value for name, value in given.items() if value is not None} | {"classes": chosen}
    )
    with StageBars() as bars:

        def show(progress: TrainProgress) -> None:
            figures = f"loss {progress.loss:.3f}  accuracy {progress.accuracy:.3f}"
            description = f"{progress.stage}: {figures}"
            bars.show(progress.stage, progress.step, progress.steps, description=description)
            if progress.held_out_accuracy is not None:
                held_out = f"held-out accuracy {progress.held_out_accuracy:.3f}"
                line = f"{progress.stage} step {progress.step}: {figures}  {held_out}"
                bars.console.print(line)

        train_weights(
            images,
            out,
            settings,
            trained_on=f"{data.name}, {split or 'all'} images of {', '.join(chosen)}",
            run_folder=run or out.with_suffix(".run"),
            teacher=teacher,
            device=choose_device(read_settings(device=device).device),
            save_every=save_every,
            progress=show,
        )
        stderr.print(f"wrote {out}")
