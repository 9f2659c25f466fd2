"""Training as it is run: stopped, killed and on two processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from model.errors import CheckpointInvalid, EpisodeImpossible, RunMismatch
from model.training.inputs import TrainSettings
from model.training.loop import Progress
from model.training.prepared import PreparedImages
from model.training.train import train
from tests.support.networks import full_checkpoint
from tests.support.samples import EXPRESSIONS

SETTINGS = TrainSettings(
    classes=EXPRESSIONS,
    encoder="conv4",
    warmup_steps=3,
    warmup_batch=8,
    steps=4,
    way=2,
    shot=1,
    query=1,
    episodes_per_step=2,
    bfloat16=False,
)
OPTIONS = """
    --encoder conv4 --warmup-steps 3 --warmup-batch 8 --steps 4 --way 2 --shot 1 --query 1
    --episodes-per-step 2 --no-bfloat16
"""
COMMAND_OPTIONS = OPTIONS.split()


class Stopped(Exception):
    pass


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums over several threads may round differently from run to run on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(images: PreparedImages, folder: Path, settings: TrainSettings = SETTINGS, **options: object) -> Path:
    weights = folder.with_suffix(".safetensors")
    train(
        images,
        weights,
        settings,
        trained_on="samples",
        run_folder=folder,
        save_every=2,
        **options,  # type: ignore[arg-type]
    )
    return weights


def assert_same_weights(one: Path, other: Path) -> None:
    """Tensor by tensor, not file by file: safetensors writes its two metadata entries in any order."""
    first, second = load_checkpoint(one), load_checkpoint(other)
    assert (first.config, first.provenance) == (second.config, second.provenance)
    expected = second.network.state_dict()
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("stage", ["warm-up", "episodes"])
def test_a_stopped_run_ends_as_an_unbroken_one(prepared: PreparedImages, tmp_path: Path, stage: str) -> None:
    def stop(progress: Progress) -> None:
        if (progress.stage, progress.step) == (stage, 3):
            raise Stopped

    settings = dataclasses.replace(SETTINGS, small_warmup_steps=5, warmup_steps=5, steps=5)
    whole = run(prepared, tmp_path / "whole", settings)
    with pytest.raises(Stopped):
        run(prepared, tmp_path / "broken", settings, progress=stop)
    assert_same_weights(run(prepared, tmp_path / "broken", settings), whole)
    provenance = load_checkpoint(whole).provenance
    assert provenance.recipe["steps"] == 5


def test_runs_that_differ_in_episodes_alone_share_a_warm_up(prepared: PreparedImages, tmp_path: Path) -> None:
    run(prepared, tmp_path / "run")
    with pytest.raises(RunMismatch, match=r"warm-up\.pt is of a run on other images or with other"):
        run(prepared, tmp_path / "run", dataclasses.replace(SETTINGS, seed=1))
    longer = dataclasses.replace(SETTINGS, steps=5)
    with pytest.raises(RunMismatch, match=r"episodes\.pt is of a run"):
        run(prepared, tmp_path / "run", longer)
    (tmp_path / "run" / "episodes.pt").unlink()
    stages: list[str] = []

    def note(progress: Progress) -> None:
        stages.append(progress.stage)

    run(prepared, tmp_path / "run", longer, progress=note)
    assert stages == ["episodes"] * 5


def test_without_a_warm_up_the_episodes_train_the_encoder(prepared: PreparedImages, tmp_path: Path) -> None:
    by_episodes = dataclasses.replace(SETTINGS, warmup_steps=0)
    trained = load_checkpoint(run(prepared, tmp_path / "run", by_episodes))
    untrained = load_checkpoint(
        run(prepared, tmp_path / "still", dataclasses.replace(by_episodes, learning_rate=0.0))
    )
    before, after = (checkpoint.network.encoder.state_dict() for checkpoint in (untrained, trained))
    assert not torch.equal(before["layer1.0.weight"], after["layer1.0.weight"])
    assert trained.config.part_weights.cosine is None


@pytest.fixture(scope="module")
def with_blendshapes(prepared: PreparedImages) -> PreparedImages:
    """The samples with drawn coefficients, so that the test needs no teacher file."""
    drawn = np.random.default_rng(0).random((len(prepared.all_landmarks), 52), dtype=np.float32)
    return dataclasses.replace(prepared, all_blendshapes=drawn)


@pytest.mark.usefixtures("one_thread")
def test_a_student_learns_from_a_larger_teacher_and_has_every_part(
    with_blendshapes: PreparedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.training.stages.GEOMETRY_STEPS", 5)
    monkeypatch.setattr("model.training.stages.MEASURED_EPISODES", 20)
    settings = dataclasses.replace(SETTINGS, encoder="resnet", held_out=0.5)
    teacher = run(with_blendshapes, tmp_path / "large", dataclasses.replace(settings, encoder="resnet-large"))
    alone = load_checkpoint(run(with_blendshapes, tmp_path / "alone", settings))
    taught = load_checkpoint(run(with_blendshapes, tmp_path / "taught", settings, teacher=teacher))
    assert taught.config.unknown_rule is not None
    assert [*taught.config.part_weights.by_name()] == [
        "face",
        "eyes",
        "lips",
        "prototype",
        "cosine",
        "votes",
        "geometry",
    ]
    assert taught.provenance.recipe["teacher_sha256"] == load_checkpoint(teacher).sha256
    first, second = (checkpoint.network.encoder.state_dict() for checkpoint in (alone, taught))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(RunMismatch):
        run(with_blendshapes, tmp_path / "taught", settings)


def test_a_teacher_that_cannot_teach_is_refused(
    prepared: PreparedImages, weights: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, encoder="resnet")
    with pytest.raises(CheckpointInvalid, match="a published checkpoint cannot teach"):
        run(prepared, tmp_path / "run", settings, teacher=weights)
    taught = full_checkpoint()
    provenance = Provenance(trained_on="samples", recipe={"classes": [*EXPRESSIONS, "fear"]})
    of_more = tmp_path / "more.safetensors"
    save_checkpoint(of_more, taught.network, config=taught.config, provenance=provenance)
    with pytest.raises(CheckpointInvalid, match=r"the teacher was trained on .*fear, this training is on"):
        run(prepared, tmp_path / "run", settings, teacher=of_more)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_trained_is_refused_at_once(prepared: PreparedImages, tmp_path: Path) -> None:
    with pytest.raises(EpisodeImpossible, match="at least two classes"):
        run(prepared, tmp_path / "run", dataclasses.replace(SETTINGS, classes=("anger",), way=1))
    with pytest.raises(EpisodeImpossible, match="'anger' has 3"):
        run(prepared, tmp_path / "run", dataclasses.replace(SETTINGS, shot=4, query=4))
    assert not (tmp_path / "run").exists()


def test_held_out_images_have_no_twin_in_training(prepared: PreparedImages, tmp_path: Path) -> None:
    """Every picture is there twice: of three that are held out, one has its twin in training."""
    twins = dataclasses.replace(prepared, contents=np.array([f"{index // 2}" for index in range(32)]))
    with pytest.raises(EpisodeImpossible, match="'anger' has 2 in 1 groups"):
        run(twins, tmp_path / "run", SETTINGS)


def test_the_curves_hold_every_step(prepared: PreparedImages, tmp_path: Path) -> None:
    run(prepared, tmp_path / "run")
    for stage, steps in (("warm-up", 3), ("episodes", 4)):
        curves = EventAccumulator(str(tmp_path / "run" / stage)).Reload()
        assert [point.step for point in curves.Scalars("train/loss")] == list(range(1, steps + 1))
        assert {"train/accuracy", "train/learning_rate", "held_out/accuracy"} <= set(curves.Tags()["scalars"])


def csrn(*arguments: str | Path) -> list[str]:
    return [str(Path(sys.executable).with_name("csrn")), *map(str, arguments)]


def one_threaded() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_killed_process_goes_on(prepared_folder: Path, prepared: PreparedImages, tmp_path: Path) -> None:
    def command(name: str) -> list[str]:
        out, run_folder = tmp_path / f"{name}.safetensors", tmp_path / name
        options = [*COMMAND_OPTIONS, "--steps", "16", "--save-every", "4", "--run", str(run_folder)]
        return csrn("train", prepared_folder, "--out", out, *options)

    subprocess.run(command("whole"), env=one_threaded(), check=True, capture_output=True)
    killed = subprocess.Popen(command("broken"), env=one_threaded(), stderr=subprocess.DEVNULL)
    state = tmp_path / "broken" / "episodes.pt"
    deadline = time.monotonic() + 120
    while not state.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (tmp_path / "broken.safetensors").exists()
    subprocess.run(command("broken"), env=one_threaded(), check=True, capture_output=True)
    assert_same_weights(tmp_path / "broken.safetensors", tmp_path / "whole.safetensors")


def test_two_processes_train_one_network(prepared_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "two.safetensors"
    options = [*COMMAND_OPTIONS, "--encoder", "resnet"]  # with parts that episodes do not train
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--no-python", *csrn("train", prepared_folder, "--out", out, *options)]
    ended = subprocess.run(command, env=one_threaded(), capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    curves = EventAccumulator(str(tmp_path / "two.run" / "episodes")).Reload()
    assert len(curves.Scalars("train/loss")) == 4
    network = load_checkpoint(out).network
    assert all(np.isfinite(tensor.numpy()).all() for tensor in network.state_dict().values())
