from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.checkpoint import CheckpointConfig, PartWeights, load_checkpoint
from model.classifier import Classifier
from model.errors import CheckpointInvalid, EpisodeImpossible
from model.support_set import Example, SupportSet
from model.training.episodes import Episode, EpisodeSampler
from model.training.evaluate import evaluate
from model.training.prepared import PreparedImages
from model.training.report import Report, measure_weights
from model.training.report_page import report_page
from model.training.scorers import RelationScorer, encode_images
from tests.support.networks import RULE, save_full_checkpoint
from tests.support.samples import EXPRESSIONS

SHAPE = {"way": 3, "shot": 2, "query": 2, "episodes": 70, "seed": 0}
ALL_PARTS = PartWeights(cosine=0.5, geometry=2.0)


def save_with(path: Path, part_weights: PartWeights) -> Path:
    """A checkpoint with seeded tensors, which do not depend on the part weights."""
    config = CheckpointConfig(
        encoder="resnet", patches="tight", residual=True, part_weights=part_weights, unknown_rule=RULE
    )
    return save_full_checkpoint(path, config)


@pytest.fixture(scope="module")
def full_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_with(tmp_path_factory.mktemp("weights") / "full.safetensors", ALL_PARTS)


@pytest.fixture(scope="module")
def mixed(prepared: PreparedImages) -> PreparedImages:
    """The samples with every second label permuted, because any weights classify them without errors."""
    labels = prepared.labels.copy()
    labels[::2] = np.random.default_rng(0).permutation(labels[::2])
    return dataclasses.replace(prepared, labels=labels)


@pytest.fixture(scope="module")
def report(mixed: PreparedImages, full_weights: Path) -> Report:
    """One report with everything in it."""
    baselines = ("cosine", "geometry")
    return measured(mixed, full_weights, against=baselines, parts=True, shot_curve=None, confused_pairs=3)


def sampler(prepared: PreparedImages, way: int = 3) -> EpisodeSampler:
    return EpisodeSampler(prepared.labels, classes=EXPRESSIONS, way=way, shot=2, query=2)


def measured(prepared: PreparedImages, weights: Path, **options: object) -> Report:
    return measure_weights(prepared, weights, **{"classes": EXPRESSIONS, **SHAPE, **options})  # type: ignore[arg-type]


def support_set(classifier: Classifier, features: Tensor, episode: Episode, classes: int) -> SupportSet:
    """The support set of a session with the examples of the first classes of an episode."""
    return classifier.build_support_set(
        [
            Example(example_id=str(index), label=label, features=features[index].numpy())
            for label, images in list(zip(episode.classes, episode.support, strict=True))[:classes]
            for index in images
        ]
    )


@pytest.mark.parametrize("name", ["full_weights", "weights"])
def test_episodes_are_scored_as_the_service_scores(
    prepared: PreparedImages, name: str, request: pytest.FixtureRequest
) -> None:
    classifier = Classifier(load_checkpoint(request.getfixturevalue(name)))
    features = encode_images(classifier, prepared)
    scorer = RelationScorer(classifier, features)
    episodes, support, query = next(sampler(prepared).draw_batches(3, np.random.default_rng(0)))
    query = query.reshape(3, -1)
    all_scores, all_parts = scorer.class_scores(support, query), scorer.class_parts(support, query)
    thresholds = scorer.thresholds(support)
    assert all_parts.shape == (3, 6, 3, len(classifier.part_names))
    for number, episode in enumerate(episodes):
        session = support_set(classifier, features, episode, classes=3)
        served = classifier.score(session, features[query[number]].numpy())
        assert thresholds[number].item() == pytest.approx(session.unknown_below, abs=1e-6)
        for scores, parts, ranked in zip(all_scores[number], all_parts[number], served, strict=True):
            by_label = {score.label: score for score in ranked}
            for label, score, of_parts in zip(episode.classes, scores.tolist(), parts.tolist(), strict=True):
                # The scorer keeps halves in float16.
                assert score == pytest.approx(by_label[label].score, abs=2e-3)
                by_part = dict(zip(scorer.part_names, of_parts, strict=True))
                assert by_part == pytest.approx(by_label[label].parts, abs=2e-3)
    if name == "full_weights":
        assert 0 < thresholds.min() < thresholds.max() < 1


def test_an_image_and_its_twin_never_meet_in_an_episode(prepared: PreparedImages, full_weights: Path) -> None:
    twins = dataclasses.replace(prepared, contents=np.array([f"{index // 2}" for index in range(32)]))
    with pytest.raises(EpisodeImpossible, match="'anger' has 8 in 4 groups"):
        measured(twins, full_weights, shot=3, query=2)


def test_an_evaluation_repeats_with_its_seed_and_counts_every_query(
    mixed: PreparedImages, full_weights: Path, report: Report
) -> None:
    first = report.evaluation.summary()
    again, other = (measured(mixed, full_weights, seed=seed).evaluation.summary() for seed in (0, 1))
    assert first == again != other
    confusion = report.evaluation.confusion
    counts = np.array([[confusion[row][column] for column in EXPRESSIONS] for row in EXPRESSIONS])
    assert counts.sum() == 70 * 3 * 2
    assert first["accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
    recalls = {label: counts[i, i] / counts[i].sum() for i, label in enumerate(EXPRESSIONS)}
    assert first["per_class"] == pytest.approx(recalls)


class KnownScorer:
    """Predicts all queries of every fourth episode correctly, and class 0 for all others."""

    weights_sha256 = ""
    scored = 0

    def class_scores(self, support: object, query: np.ndarray) -> Tensor:
        scores = torch.zeros(len(query), query.shape[1], 2)
        scores[..., 0] = 1
        for row in range(len(query)):
            if (self.scored + row) % 4 == 0:
                scores[row] = torch.eye(2)[torch.arange(query.shape[1]) // 2]
        self.scored += len(query)
        return scores


def test_the_interval_is_that_of_the_mean_over_episodes(prepared: PreparedImages) -> None:
    evaluation = evaluate(KnownScorer(), sampler(prepared, way=2), episodes=100, seed=0)
    assert evaluation.accuracy == pytest.approx(0.25 * 1 + 0.75 * 0.5)
    accuracies = np.array([1.0, 0.5, 0.5, 0.5] * 25)
    assert evaluation.ci95 == pytest.approx(1.96 * accuracies.std(ddof=1) / 10)


def test_baselines_are_measured_on_the_same_episodes(report: Report) -> None:
    assert [comparison.name for comparison in report.against] == ["cosine", "geometry"]
    for comparison in report.against:
        other = comparison.evaluation
        assert other.accuracy > 1 / 3 + other.ci95
        differences = report.evaluation.episode_accuracies - other.episode_accuracies
        assert comparison.difference == pytest.approx(differences.mean())
        assert comparison.difference_ci95 == pytest.approx(1.96 * differences.std(ddof=1) / 70**0.5)
    assert report.against[1].evaluation.accuracy == pytest.approx(report.parts["geometry"].alone)


def test_the_cosine_baseline_needs_no_cosine_part(prepared: PreparedImages, weights: Path) -> None:
    (comparison,) = measured(prepared, weights, against=("cosine",), episodes=2).against
    classifier = Classifier(load_checkpoint(weights))
    maps = classifier.network.unpack(encode_images(classifier, prepared)).maps
    vectors = maps.mean(dim=(-2, -1)).flatten(1)
    episode = sampler(prepared).draw(np.random.default_rng(0))
    means = vectors[torch.from_numpy(episode.support)].mean(dim=1)
    queries = vectors[torch.from_numpy(episode.query.ravel())]
    predicted = torch.cosine_similarity(queries[:, None], means[None], dim=-1).argmax(dim=1)
    correct = (predicted.numpy() == np.arange(3).repeat(2)).mean()
    assert comparison.evaluation.episode_accuracies[0] == correct


def test_a_baseline_without_its_part_is_refused(prepared: PreparedImages, weights: Path) -> None:
    with pytest.raises(CheckpointInvalid, match=r"seeded\.safetensors has no geometry to compare with"):
        measured(prepared, weights, against=("geometry",))


def test_other_weights_are_compared_on_the_patches_of_their_own_layout(
    mixed: PreparedImages, weights: Path, full_weights: Path
) -> None:
    one, other = (measured(mixed, path, episodes=10).evaluation for path in (weights, full_weights))
    against = (str(full_weights), str(weights))
    comparison, itself = measured(mixed, weights, against=against, episodes=10).against
    np.testing.assert_array_equal(comparison.evaluation.episode_accuracies, other.episode_accuracies)
    assert comparison.evaluation.weights_sha256 == other.weights_sha256 != one.weights_sha256
    assert comparison.difference == pytest.approx(one.accuracy - other.accuracy)
    assert (itself.difference, itself.difference_ci95) == (0, 0)


def test_the_shot_curve_has_a_point_per_shot(mixed: PreparedImages, full_weights: Path) -> None:
    curve = measured(mixed, full_weights, shot_curve=(1, 2))
    one, two = curve.shot_curve
    assert (one.shot, two.shot) == (1, 2)
    assert two.accuracy == curve.evaluation.accuracy
    assert one.per_class != two.per_class, "the shot makes a difference"
    with pytest.raises(EpisodeImpossible, match="'anger' has 8"):
        measured(mixed, full_weights, shot_curve=(1, 10))


def test_the_usual_shots_are_measured_as_far_as_the_data_allows(report: Report) -> None:
    """Eight images a class are enough for six shots and two queries."""
    assert [point.shot for point in report.shot_curve] == [1, 2, 3, 5]
    assert report.shot_curve[1] is report.evaluation


def test_the_most_confused_pairs_show_queries_and_the_examples_that_they_resemble(
    mixed: PreparedImages, report: Report
) -> None:
    confusion = report.evaluation.confusion
    wrong = sum(sum(row.values()) - row[label] for label, row in confusion.items())
    assert report.evaluation.mistakes.shape == (wrong, 1 + 2)
    pairs = report.confused_pairs
    assert len(pairs) == 3
    others = (
        row[predicted] / sum(row.values())
        for label, row in confusion.items()
        for predicted in row
        if predicted != label
    )
    assert [pair.share for pair in pairs] == sorted(others, reverse=True)[:3]
    index_of = {source: index for index, source in enumerate(mixed.sources.tolist())}
    for pair in pairs:
        assert pair.count == confusion[pair.label][pair.predicted]
        assert sum(found.times for found in pair.queries) <= pair.count
        assert len({found.query.source for found in pair.queries}) == len(pair.queries) > 0
        for found in pair.queries:
            for face, label in ((found.query, pair.label), (found.nearest, pair.predicted)):
                index = index_of[face.source]
                assert mixed.labels[index] == label
                assert (face.patches == mixed.patches(np.array([index]), "tight")[0]).all()


def test_labels_and_names_on_the_page_of_a_report_are_no_html(report: Report) -> None:
    label, *_ = report.images
    hostile = "<script>alert(1)</script>"

    def renamed(counts: Mapping[str, Any]) -> dict[str, Any]:
        return {hostile if name == label else name: value for name, value in counts.items()}

    evaluation = dataclasses.replace(
        report.evaluation,
        confusion={name: renamed(row) for name, row in renamed(report.evaluation.confusion).items()},
        per_class=renamed(report.evaluation.per_class),
    )
    pairs = tuple(
        dataclasses.replace(pair, label=hostile, predicted=hostile) for pair in report.confused_pairs
    )
    changed = dataclasses.replace(
        report, evaluation=evaluation, images=renamed(report.images), confused_pairs=pairs
    )
    page = report_page(changed, settings={hostile: hostile})
    assert hostile not in page
    assert page.count("&lt;script&gt;") > 2


def test_the_page_of_a_report_needs_nothing_else_and_shows_names_as_they_are(report: Report) -> None:
    page = report_page(report, settings={"weights": "<w>", "data": "\udcff"})
    assert "<w>" not in page
    assert "&lt;w&gt;" in page
    assert r"\xff" in page
    page.encode()
    assert re.findall(r'(?:src|href)="(?!data:image/)', page) == []
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)]
    assert len(pictures) == 2 * sum(len(pair.queries) for pair in report.confused_pairs)
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as shown:
            shown.load()
            assert shown.height == 128
    shots, parts = (
        base64.b64decode(data).decode() for data in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
    )
    for chart in (shots, parts):
        assert "chance 33.3 %" in chart
        assert f"{100 * report.evaluation.accuracy:.1f} ± {100 * report.evaluation.ci95:.1f}" in chart
    for name, part in report.parts.items():
        assert name in parts
        assert f"{100 * part.alone:.1f} ± {100 * part.alone_ci95:.1f}" in parts
    counts = re.findall(r"%<small>([0-9]+)</small>", page)
    assert [int(count) for count in counts] == [
        count for row in report.evaluation.confusion.values() for count in row.values()
    ]


@pytest.mark.parametrize("left_out", ["face", "prototype", "cosine", "geometry"])
def test_parts_are_measured_as_weights_without_them(
    mixed: PreparedImages, full_weights: Path, report: Report, tmp_path: Path, left_out: str
) -> None:
    parts = report.parts
    assert any(part.alone < 0.9 for part in parts.values()), "the samples are too easy to show a difference"
    assert tuple(parts) == ("face", "eyes", "lips", "prototype", "cosine", "geometry")
    without = save_with(tmp_path / "without.safetensors", ALL_PARTS.model_copy(update={left_out: 0.0}))
    (comparison,) = measured(mixed, full_weights, against=(str(without),)).against
    part = parts[left_out]
    assert part.without == pytest.approx(comparison.evaluation.accuracy)
    assert (part.difference, part.difference_ci95) == (comparison.difference, comparison.difference_ci95)
    others = dict.fromkeys({*ALL_PARTS.by_name()} - {left_out}, 0.0)
    alone = save_with(tmp_path / "alone.safetensors", ALL_PARTS.model_copy(update=others))
    of_one = measured(mixed, alone, parts=True)
    assert part.alone == of_one.evaluation.accuracy == of_one.parts[left_out].alone
    # No other part has a weight, so nothing is left to compare with.
    assert (of_one.parts[left_out].without, of_one.parts[left_out].difference) == (None, None)
    assert all(found.difference is not None for name, found in of_one.parts.items() if name != left_out)


def test_unknown_is_measured_with_the_threshold_of_each_session(
    mixed: PreparedImages, full_weights: Path
) -> None:
    """Three classes have examples, the fourth is absent, and the service gives the same results."""
    result = measured(mixed, full_weights, episodes=12).unknown
    assert result is not None
    assert (result.way, result.shot) == (3, 2)
    classifier = Classifier(load_checkpoint(full_weights))
    features = encode_images(classifier, mixed)
    drawn, _, query = next(sampler(mixed, way=4).draw_batches(12, np.random.default_rng(0)))
    known, absent = [], []
    for episode, queries in zip(drawn, query, strict=True):
        session = support_set(classifier, features, episode, classes=3)
        ranked = classifier.score(session, features[queries.ravel()].numpy())
        margins = [scores[0].score - session.unknown_below for scores in ranked]
        known += margins[:6]
        absent += margins[6:]
    # One query may lie within rounding of its threshold.
    assert result.known_kept == pytest.approx(np.mean(np.array(known) >= 0), abs=1.5 / len(known))
    assert result.absent_told == pytest.approx(np.mean(np.array(absent) < 0), abs=1.5 / len(absent))
    higher = np.array(known)[:, None] > np.array(absent)
    assert result.auroc == pytest.approx(higher.mean(), abs=0.01)


@pytest.mark.parametrize(
    ("classes", "way", "session_way"), [(4, 4, 3), (3, 2, 2), (2, 2, 1), (2, 1, 1), (1, 1, None)]
)
def test_one_class_is_left_to_be_absent(
    prepared: PreparedImages, full_weights: Path, classes: int, way: int, session_way: int | None
) -> None:
    unknown = measured(prepared, full_weights, classes=EXPRESSIONS[:classes], way=way, episodes=3).unknown
    assert (None if unknown is None else unknown.way) == session_way


def test_known_persons_decide_which_images_meet_in_an_episode(
    mixed: PreparedImages, full_weights: Path
) -> None:
    """Two persons with about four images of each label."""
    persons = dataclasses.replace(mixed, persons=np.array(["P", "P", "Q", "Q"] * 8))
    accuracies = {
        measured(images, full_weights, personal=is_personal, shot=1, query=1).evaluation.accuracy
        for images, is_personal in ((mixed, False), (persons, False), (persons, True))
    }
    assert len(accuracies) == 3
    # Each person has four classes, so one of them is left out to be absent.
    unknown = measured(persons, full_weights, way=4, shot=1, query=1, personal=True).unknown
    assert unknown is not None
    assert unknown.way == 3
