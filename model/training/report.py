"""The report of `csrn evaluate`: everything that it measures about one weight file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.checkpoint import load_checkpoint
from model.classifier import Classifier
from model.errors import CheckpointInvalid, EpisodeImpossible
from model.training.confused_pairs import ConfusedPair, find_confused_pairs
from model.training.episodes import EpisodeSampler
from model.training.evaluate import (
    Evaluation,
    PartResult,
    UnknownResult,
    evaluate,
    mean_and_ci95,
    measure_parts,
    measure_unknown,
)
from model.training.prepared import PreparedImages
from model.training.scorers import (
    BASELINES,
    GEOMETRY,
    EpisodeScorer,
    MeanScorer,
    RelationScorer,
    encode_images,
)

USUAL_SHOTS = (1, 2, 3, 5, 10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Another scorer on the same episodes; `difference` is the weights' accuracy minus the other's."""

    name: str
    evaluation: Evaluation
    difference: float
    difference_ci95: float

    def summary(self) -> dict[str, object]:
        """Name, weights and accuracy of the other scorer, and the difference in accuracy, for JSON."""
        other = self.evaluation
        return {
            "name": self.name,
            **({} if self.name in BASELINES else {"weights_sha256": other.weights_sha256}),
            "accuracy": other.accuracy,
            "ci95": other.ci95,
            "difference": self.difference,
            "difference_ci95": self.difference_ci95,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The measurements of one weight file."""

    evaluation: Evaluation
    unknown: UnknownResult | None
    """None if the data has no class to leave out"""
    against: tuple[Comparison, ...]
    parts: dict[str, PartResult]
    """Empty unless requested"""
    shot_curve: tuple[Evaluation, ...]
    images: dict[str, int]
    """Number of images of each class"""
    confused_pairs: tuple[ConfusedPair, ...]
    """The most confused first; empty unless requested"""

    def summary(self) -> dict[str, object]:
        """The report, ready for JSON."""
        summary = self.evaluation.summary()
        summary["unknown"] = None if self.unknown is None else dataclasses.asdict(self.unknown)
        summary["against"] = [comparison.summary() for comparison in self.against]
        if self.parts:
            summary["parts"] = {name: dataclasses.asdict(part) for name, part in self.parts.items()}
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
    personal: bool = False,
    against: Sequence[str] = (),
    parts: bool = False,
    shot_curve: tuple[int, ...] | None = (),
    confused_pairs: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Report:
    """Measure weights over seeded episodes. Every image is encoded once, as in a session.

    Args:
        personal: whether all images of an episode show one person; otherwise no known person is both in the
            support set and among the queries.
        against: names in BASELINES or paths of other weights, to compare on the same episodes.
        parts: whether to measure each part of the class scores.
        shot_curve: further shots to measure; None measures those of USUAL_SHOTS that the data allows.
        confused_pairs: how many of the most confused pairs of classes to find.
        progress: called with (stage, done, total).
    Raises: EpisodeImpossible or CheckpointInvalid, before any image is encoded.
    """
    images = images.select(np.isin(images.labels, classes))

    def sampler(shot: int, way: int = way) -> EpisodeSampler:
        return EpisodeSampler(
            images.labels,
            classes=classes,
            way=way,
            shot=shot,
            query=query,
            groups=images.kin,
            persons=images.persons,
            personal=personal,
        )

    samplers = {number: sampler(number) for number in (shot, *(shot_curve or ()))}
    if shot_curve is None:
        for number in USUAL_SHOTS:
            with contextlib.suppress(EpisodeImpossible):
                samplers.setdefault(number, sampler(number))
        shot_curve = tuple(sorted(samplers))
    classifier = Classifier(load_checkpoint(weights, device=device))
    if GEOMETRY in against and classifier.network.geometry is None:
        raise CheckpointInvalid(f"{weights} has no geometry to compare with")
    others = {
        name: Classifier(load_checkpoint(Path(name), device=device))
        for name in against
        if name not in BASELINES
    }
    features = encode_images(classifier, images, progress)
    scorer = RelationScorer(classifier, features)

    def opponent(name: str) -> EpisodeScorer:
        if name in BASELINES:
            return MeanScorer(classifier, features, baseline=name)
        return RelationScorer(others[name], encode_images(others[name], images, progress))

    def options(stage: str) -> dict[str, Any]:
        return {"episodes": episodes, "seed": seed, "progress": functools.partial(progress, stage)}

    evaluation = evaluate(scorer, samplers[shot], **options("episodes"))
    comparisons = []
    for name in against:
        other = evaluate(opponent(name), samplers[shot], **options(f"against {name}"))
        difference, ci95 = mean_and_ci95(evaluation.episode_accuracies - other.episode_accuracies)
        comparisons.append(
            Comparison(name=name, evaluation=other, difference=difference, difference_ci95=ci95)
        )
    absent = _with_absent_class(sampler, shot, way)
    return Report(
        evaluation=evaluation,
        unknown=None if absent is None else measure_unknown(scorer, absent, **options("unknown classes")),
        against=tuple(comparisons),
        parts=measure_parts(scorer, samplers[shot], **options("parts")) if parts else {},
        shot_curve=tuple(
            evaluation
            if number == shot
            else evaluate(scorer, samplers[number], **options(f"{number}-shot episodes"))
            for number in shot_curve
        ),
        images={label: int((images.labels == label).sum()) for label in classes},
        confused_pairs=find_confused_pairs(
            evaluation, images, scorer, layout=classifier.checkpoint.config.patches, pairs=confused_pairs
        ),
    )


def _with_absent_class(
    sampler: Callable[[int, int], EpisodeSampler], shot: int, way: int
) -> EpisodeSampler | None:
    """A sampler of way + 1 classes if the data allows it, else of `way`; None for a single class."""
    try:
        return sampler(shot, way + 1)
    except EpisodeImpossible:
        return sampler(shot, way) if way > 1 else None
