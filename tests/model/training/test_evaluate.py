from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.checkpoint import (
    CheckpointConfig,
    PartWeights,
    Provenance,
    load_checkpoint,
    save_checkpoint,
)
from model.classifier import Classifier
from model.errors import EpisodeImpossible
from model.support_set import Example
from model.training.calibrate import calibrate
from model.training.episodes import EpisodeSampler
from model.training.evaluate import evaluate, paired_difference
from model.training.prepared import PreparedImages
from model.training.report import Report, draw_confusion, measure_weights
from model.training.scorers import RelationScorer, encode_images
from tests.conftest import EXPRESSIONS

SHAPE = {"way": 3, "shot": 2, "query": 2, "episodes": 70, "seed": 0}


@pytest.fixture(scope="module")
def cosine_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with every kind of part, untrained."""
    config = CheckpointConfig(encoder="resnet12", part_weights=PartWeights(cosine=0.5), unknown_below=0.2)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "cosine.safetensors"
    save_checkpoint(path, config.build_network(), config=config, provenance=Provenance(trained_on="nothing"))
    return path


def sampler(
    prepared: PreparedImages, way: int = 3, shot: int = 2, classes: tuple[str, ...] = EXPRESSIONS
) -> EpisodeSampler:
    return EpisodeSampler(prepared.labels, classes=classes, way=way, shot=shot, query=2)


def measured(prepared: PreparedImages, weights: Path, **options: object) -> Report:
    return measure_weights(prepared, weights, classes=EXPRESSIONS, **{**SHAPE, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cosine_weights", "shipped_weights"])
def test_episodes_are_scored_as_the_service_scores(
    prepared: PreparedImages, name: str, request: pytest.FixtureRequest
) -> None:
    classifier = Classifier(load_checkpoint(request.getfixturevalue(name)))
    features = encode_images(classifier, prepared)
    episode = sampler(prepared).draw(np.random.default_rng(0))
    scores = RelationScorer(classifier, features).class_scores(
        episode.support[None], episode.query.reshape(1, -1)
    )[0]
    support = classifier.build_support_set(
        [
            Example(example_id=str(index), label=label, features=features[index].numpy())
            for label, images in zip(episode.classes, episode.support, strict=True)
            for index in images
        ]
    )
    served = classifier.score(support, features[episode.query.ravel()].numpy())
    for row, ranked in zip(scores.tolist(), served, strict=True):
        by_label = {score.label: score.score for score in ranked}
        # Halves are kept in float16 over many episodes.
        assert row == pytest.approx([by_label[label] for label in episode.classes], abs=2e-3)


def test_an_image_and_its_twin_never_meet_in_an_episode(prepared: PreparedImages, weights: Path) -> None:
    twins = dataclasses.replace(prepared, contents=np.array([f"{index // 2}" for index in range(32)]))
    with pytest.raises(EpisodeImpossible, match="'anger' has 8 in 4 groups"):
        measured(twins, weights, shot=3, query=2)


def test_an_evaluation_repeats_with_its_seed_and_counts_every_query(
    prepared: PreparedImages, shipped_weights: Path
) -> None:
    first, again, other = (
        measured(prepared, shipped_weights, seed=seed).evaluation.summary() for seed in (0, 0, 1)
    )
    assert first == again != other
    confusion = first["confusion"]
    assert isinstance(confusion, dict)
    counts = np.array([[confusion[row][column] for column in EXPRESSIONS] for row in EXPRESSIONS])
    assert counts.sum() == 70 * 3 * 2
    assert first["accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
    recalls = {label: counts[i, i] / counts[i].sum() for i, label in enumerate(EXPRESSIONS)}
    assert first["per_class"] == pytest.approx(recalls)


class KnownScorer:
    """Says class 0 of every episode but in one of four; its accuracies can be told beforehand."""

    weights_sha256: str | None = None

    def __init__(self) -> None:
        self.asked = 0

    def class_scores(self, support: object, query: np.ndarray) -> Tensor:
        scores = torch.zeros(len(query), query.shape[1], 2)
        numbers = torch.arange(self.asked, self.asked + len(query))
        self.asked += len(query)
        scores[..., 0] = 1
        right = torch.arange(query.shape[1]) // 2
        for row in torch.nonzero(numbers % 4 == 0).flatten().tolist():
            scores[row] = torch.eye(2)[right]
        return scores


def test_the_interval_is_that_of_the_mean_over_episodes(prepared: PreparedImages) -> None:
    evaluation = evaluate(KnownScorer(), sampler(prepared, way=2), episodes=100, seed=0)
    assert evaluation.accuracy == pytest.approx(0.25 * 1 + 0.75 * 0.5)
    accuracies = np.array([1.0, 0.5, 0.5, 0.5] * 25)
    assert evaluation.ci95 == pytest.approx(1.96 * accuracies.std(ddof=1) / 10)
    same = paired_difference(evaluation, evaluation)
    assert (same.difference, same.ci95) == (0, 0)


@pytest.mark.parametrize("baseline", ["cosine", "landmarks"])
def test_baselines_meet_the_weights_on_the_same_episodes(
    prepared: PreparedImages, shipped_weights: Path, baseline: str
) -> None:
    report = measured(prepared, shipped_weights, against=(baseline,))
    (comparison,) = report.against
    other = comparison.evaluation
    assert other.accuracy > 1 / 3 + other.ci95
    differences = report.evaluation.episode_accuracies - other.episode_accuracies
    assert comparison.difference.difference == pytest.approx(differences.mean())
    assert comparison.difference.ci95 == pytest.approx(1.96 * differences.std(ddof=1) / 70**0.5)


def test_weights_do_not_differ_from_themselves(prepared: PreparedImages, shipped_weights: Path) -> None:
    report = measured(prepared, shipped_weights, against=(str(shipped_weights), "landmarks"))
    itself, landmarks = report.against
    assert (itself.difference.difference, itself.difference.ci95) == (0, 0)
    assert itself.evaluation.weights_sha256 == report.evaluation.weights_sha256
    assert landmarks.difference.ci95 > 0


def test_the_shot_curve_has_a_point_per_shot(prepared: PreparedImages, weights: Path) -> None:
    report = measured(prepared, weights, shot_curve=(1, 2))
    one, two = report.shot_curve
    assert (one.shot, two.shot) == (1, 2)
    assert two.accuracy == report.evaluation.accuracy
    assert one.per_class != two.per_class, "the shot makes a difference"
    with pytest.raises(EpisodeImpossible, match="'anger' has 8"):
        measured(prepared, weights, shot_curve=(1, 10))


def test_the_confusion_matrix_is_drawn(
    prepared: PreparedImages, shipped_weights: Path, tmp_path: Path
) -> None:
    draw_confusion(measured(prepared, shipped_weights).evaluation, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as drawn:
        assert drawn.format == "PNG"
        assert min(drawn.size) > 400
        colours = drawn.convert("RGB").getcolors(maxcolors=10**6)
    assert colours is not None
    assert len(colours) > 50


class MarginScorer:
    """Best scores spread evenly over [0, 1) for queries of taught classes, below 0.5 for the others."""

    weights_sha256: str | None = None

    def class_scores(self, support: np.ndarray, query: np.ndarray) -> Tensor:
        episodes, way = support.shape[:2]
        rng = np.random.default_rng(0)
        best = rng.random((episodes, query.shape[1]))
        absent = np.arange(query.shape[1]) >= way * 2
        best[:, absent] /= 2
        scores = torch.zeros(episodes, query.shape[1], way)
        scores[..., 0] = torch.from_numpy(best)
        return scores


def test_calibration_keeps_19_of_20_known_queries(prepared: PreparedImages) -> None:
    calibration = calibrate(MarginScorer(), sampler(prepared, way=3), episodes=1000, seed=0)
    assert (calibration.way, calibration.shot) == (2, 2)
    assert calibration.unknown_below == pytest.approx(0.05, abs=0.01)
    told = {round(point.known_kept, 2): point.absent_told for point in calibration.curve}
    assert told[0.95] == pytest.approx(0.1, abs=0.03)
    assert told[0.5] == 1.0
    kept = [point.known_kept for point in calibration.curve]
    assert kept == sorted(kept)
