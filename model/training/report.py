"""Everything that `csrn evaluate` measures of one weight file: accuracy, comparison, shot curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np
import torch

from model.checkpoint import load_checkpoint
from model.classifier import Classifier
from model.training.episodes import EpisodeSampler
from model.training.evaluate import Difference, Evaluation, evaluate, paired_difference
from model.training.prepared import PreparedImages
from model.training.scorers import (
    CosineScorer,
    EpisodeScorer,
    LandmarkScorer,
    RelationScorer,
    encode_images,
)

COSINE, LANDMARKS = "cosine", "landmarks"
"""Baselines: nearest mean by cosine on the same encoder, and by landmark geometry alone"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Another scorer on the same episodes; `difference` is the weights' accuracy less the other's."""

    name: str
    evaluation: Evaluation
    difference: Difference

    def summary(self) -> dict[str, object]:
        """Ready for JSON."""
        other = self.evaluation
        is_weights = self.name not in (COSINE, LANDMARKS)
        return {
            "name": self.name,
            **({"weights_sha256": other.weights_sha256} if is_weights else {}),
            "accuracy": other.accuracy,
            "ci95": other.ci95,
            "difference": self.difference.difference,
            "difference_ci95": self.difference.ci95,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured of one weight file."""

    evaluation: Evaluation
    against: tuple[Comparison, ...]
    shot_curve: tuple[Evaluation, ...]

    def summary(self) -> dict[str, object]:
        """Ready for JSON."""
        summary = self.evaluation.summary()
        if self.against:
            summary["against"] = [comparison.summary() for comparison in self.against]
        if self.shot_curve:
            summary["shot_curve"] = [
                {"shot": point.shot, "accuracy": point.accuracy, "ci95": point.ci95}
                for point in self.shot_curve
            ]
        return summary


def measure_weights(
    images: PreparedImages,
    weights: Path,
    *,
    classes: tuple[str, ...],
    way: int,
    shot: int,
    query: int,
    episodes: int,
    seed: int,
    against: Sequence[str] = (),
    shot_curve: tuple[int, ...] = (),
    device: torch.device | str = "cpu",
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Report:
    """Measure weights over seeded episodes. Every image is encoded once, as a session would store it.

    Args:
        against: each COSINE, LANDMARKS or the path of other weights, measured on the same episodes.
        shot_curve: shots to measure besides.
        progress: called with (stage, done, total).
    Raises: EpisodeImpossible, before anything is encoded; CheckpointInvalid.
    """
    images = images.select(np.isin(images.labels, classes))

    def sampler(shot: int) -> EpisodeSampler:
        return EpisodeSampler(
            images.labels, classes=classes, way=way, shot=shot, query=query, groups=images.kin
        )

    samplers = {number: sampler(number) for number in (shot, *shot_curve)}
    classifier = Classifier(load_checkpoint(weights, device=device))
    others = {
        name: Classifier(load_checkpoint(Path(name), device=device))
        for name in against
        if name not in (COSINE, LANDMARKS)
    }
    features = encode_images(classifier, images, progress)
    scorer = RelationScorer(classifier, features)

    def measure(scorer: EpisodeScorer, shot: int, stage: str) -> Evaluation:
        return evaluate(
            scorer,
            samplers[shot],
            episodes=episodes,
            seed=seed,
            progress=lambda done, total: progress(stage, done, total),
        )

    def opponent(name: str) -> EpisodeScorer:
        if name in others:
            return RelationScorer(others[name], encode_images(others[name], images, progress))
        return CosineScorer(classifier, features) if name == COSINE else LandmarkScorer(images)

    evaluation = measure(scorer, shot, "episodes")
    comparisons = []
    for name in against:
        compared = measure(opponent(name), shot, f"against {name}")
        difference = paired_difference(evaluation, compared)
        comparisons.append(Comparison(name=name, evaluation=compared, difference=difference))
    return Report(
        evaluation=evaluation,
        against=tuple(comparisons),
        shot_curve=tuple(measure(scorer, number, f"{number}-shot episodes") for number in shot_curve),
    )


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw the confusion matrix, each row as shares of its class's queries, as a PNG."""
    labels = list(evaluation.confusion)
    counts = np.array([[evaluation.confusion[row][column] for column in labels] for row in labels])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.7 * len(labels)
    figure = matplotlib.figure.Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    axes.set_title(
        f"{evaluation.way}-way {evaluation.shot}-shot: "
        f"{100 * evaluation.accuracy:.1f} ± {100 * evaluation.ci95:.1f} %"
    )
    for row, column in np.ndindex(*shares.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color=colour)
    figure.savefig(path, format="png", dpi=120)
