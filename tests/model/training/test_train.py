from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from model.checkpoint import CheckpointConfig, PartWeights, Provenance, load_checkpoint, save_checkpoint
from model.errors import CheckpointInvalid, EpisodeImpossible, RunMismatch
from model.training.inputs import TrainSettings
from model.training.loop import Progress
from model.training.prepared import PreparedImages
from model.training.train import train
from tests.support.networks import assert_same_weights, full_checkpoint
from tests.support.samples import EXPRESSIONS

SETTINGS = TrainSettings(
    classes=EXPRESSIONS,
    small_warmup_steps=3,
    warmup_steps=3,
    warmup_batch=8,
    steps=3,
    way=2,
    shot=1,
    query=1,
    episodes_per_step=2,
    held_out=0.5,
    bfloat16=False,
)


def run(images: PreparedImages, folder: Path, settings: TrainSettings = SETTINGS, **options: object) -> Path:
    """Train, and return the path of the weights beside the run folder."""
    weights = folder.with_suffix(".safetensors")
    options = {"trained_on": "samples", "run_folder": folder, "save_every": 2, **options}
    train(images, weights, settings, **options)  # type: ignore[arg-type]
    return weights


@pytest.fixture(scope="module")
def images(prepared: PreparedImages) -> PreparedImages:
    """The samples with random coefficients in place of a teacher's."""
    drawn = np.random.default_rng(0).random((len(prepared.all_landmarks), 52), dtype=np.float32)
    return dataclasses.replace(prepared, all_blendshapes=drawn)


@pytest.fixture(scope="module")
def whole(images: PreparedImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of an uninterrupted run."""
    return run(images, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("stage", ["geometry", "warm-up-small", "warm-up", "episodes"])
def test_an_interrupted_run_resumes_with_the_result_of_an_uninterrupted_one(
    images: PreparedImages, whole: Path, tmp_path: Path, stage: str
) -> None:
    def stop(progress: Progress) -> None:
        if (progress.stage, progress.step) == (stage, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "run", progress=stop)
    assert_same_weights(run(images, tmp_path / "run"), whole)


def test_the_checkpoint_names_its_settings_and_has_every_part(whole: Path) -> None:
    trained = load_checkpoint(whole)
    assert trained.provenance.recipe["steps"] == 3
    assert trained.config.unknown_rule is not None
    assert set(trained.config.part_weights.by_name()) == set(PartWeights.model_fields)


def test_the_curves_hold_every_step(whole: Path) -> None:
    for stage in ("warm-up", "episodes"):
        curves = EventAccumulator(str(whole.with_suffix("") / stage)).Reload()
        assert [point.step for point in curves.Scalars("train/loss")] == [1, 2, 3]
        assert {"train/accuracy", "train/learning_rate", "held_out/accuracy"} <= set(curves.Tags()["scalars"])


def test_runs_that_differ_in_episodes_alone_share_a_warm_up(
    images: PreparedImages, whole: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(whole.with_suffix(""), tmp_path / "run")
    with pytest.raises(RunMismatch, match=r"geometry\.pt belongs to a run on other images, with other"):
        run(images, folder, dataclasses.replace(SETTINGS, seed=1))
    longer = dataclasses.replace(SETTINGS, steps=4)
    with pytest.raises(RunMismatch, match=r"episodes\.pt belongs to a run"):
        run(images, folder, longer)
    (folder / "episodes.pt").unlink()
    stages: list[str] = []
    run(images, folder, longer, progress=lambda progress: stages.append(progress.stage))
    assert stages == ["episodes"] * 4


def test_without_a_warm_up_the_episodes_train_the_encoder(images: PreparedImages, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, encoder="conv4", warmup_steps=0)
    trained = load_checkpoint(run(images, tmp_path / "run", settings))
    torch.manual_seed(settings.seed)
    untrained = CheckpointConfig(encoder="conv4").build_network()
    before, after = (network.encoder.state_dict() for network in (untrained, trained.network))
    assert not torch.equal(before["layer1.0.weight"], after["layer1.0.weight"])
    assert trained.config.part_weights.cosine is None


def test_a_student_learns_from_a_larger_teacher(images: PreparedImages, whole: Path, tmp_path: Path) -> None:
    large = dataclasses.replace(SETTINGS, encoder="resnet-large", small_warmup_steps=0)
    teacher = run(images, tmp_path / "large", large)
    taught = load_checkpoint(run(images, tmp_path / "taught", teacher=teacher))
    assert taught.provenance.recipe["teacher_sha256"] == load_checkpoint(teacher).sha256
    alone = load_checkpoint(whole).network.encoder.state_dict()
    assert any(
        not torch.equal(tensor, alone[name]) for name, tensor in taught.network.encoder.state_dict().items()
    )
    with pytest.raises(RunMismatch):
        run(images, tmp_path / "taught")


def test_a_teacher_that_cannot_teach_is_refused(
    images: PreparedImages, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointInvalid, match="a published checkpoint cannot teach"):
        run(images, tmp_path / "run", teacher=weights)
    taught = full_checkpoint()
    provenance = Provenance(trained_on="samples", recipe={"classes": [*EXPRESSIONS, "fear"]})
    of_more = tmp_path / "more.safetensors"
    save_checkpoint(of_more, taught.network, config=taught.config, provenance=provenance)
    with pytest.raises(CheckpointInvalid, match=r"the teacher was trained on .*fear, this training is on"):
        run(images, tmp_path / "run", teacher=of_more)
    assert not (tmp_path / "run").exists()


def test_impossible_training_is_refused_at_once(images: PreparedImages, tmp_path: Path) -> None:
    # Every picture is there twice: of three held-out images, one has its twin among the training images.
    twins = dataclasses.replace(images, contents=np.array([f"{index // 2}" for index in range(32)]))
    for some, change, reason in (
        (images, {"classes": ("anger",), "way": 1}, "at least two classes"),
        (images, {"shot": 4, "query": 4}, "'anger' has 3"),
        (twins, {}, "'anger' has 2 in 1 groups"),
    ):
        settings = dataclasses.replace(SETTINGS, **{"held_out": 0.05, **change})  # type: ignore[arg-type]
        with pytest.raises(EpisodeImpossible, match=reason):
            run(some, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
