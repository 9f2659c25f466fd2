from __future__ import annotations

import dataclasses
from collections.abc import Iterator
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
from model.errors import CheckpointInvalid, DatasetInvalid, EpisodeImpossible
from model.support_set import Example, SupportSet
from model.training.episodes import Episode, EpisodeSampler
from model.training.evaluate import Difference, evaluate
from model.training.open_set import BestScores, area_under_roc, judge_thresholds
from model.training.prepared import PreparedImages
from model.training.report import Report, draw_confusion, measure_weights
from model.training.scorers import RelationScorer, encode_images
from model.training.voted_labels import label_by_votes, majority_labels
from model.unknown import UnknownRule
from tests.conftest import EXPRESSIONS

SHAPE = {"way": 3, "shot": 2, "query": 2, "episodes": 70, "seed": 0}
ALL_PARTS = PartWeights(cosine=0.5, geometry=2.0)
RULE = UnknownRule(several=(-0.05, 0.01, -0.02, 0), single=(0.2, 0.05, -0.1, 0.1))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small wait for a second thread longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def save_untrained(path: Path, part_weights: PartWeights) -> Path:
    """A checkpoint of an untrained network with every kind of part; equal weights whatever the parts'."""
    config = CheckpointConfig(
        encoder="resnet", patches="tight", residual=True, part_weights=part_weights, unknown_rule=RULE
    )
    torch.manual_seed(0)
    network = config.build_network()
    # An untrained relation module adds nothing to the cosine: every part would rank classes alike.
    torch.nn.init.normal_(network.relation.fc2.weight)
    save_checkpoint(path, network, config=config, provenance=Provenance(trained_on="nothing"))
    return path


@pytest.fixture(scope="module")
def all_parts_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("weights") / "all-parts.safetensors", ALL_PARTS)


@pytest.fixture(scope="module")
def mixed(prepared: PreparedImages) -> PreparedImages:
    """The samples with every second label permuted: even untrained weights make no errors on the others."""
    labels = prepared.labels.copy()
    labels[::2] = np.random.default_rng(0).permutation(labels[::2])
    return dataclasses.replace(prepared, labels=labels)


def sampler(
    prepared: PreparedImages, way: int = 3, shot: int = 2, classes: tuple[str, ...] = EXPRESSIONS
) -> EpisodeSampler:
    return EpisodeSampler(prepared.labels, classes=classes, way=way, shot=shot, query=2)


def measured(prepared: PreparedImages, weights: Path, **options: object) -> Report:
    return measure_weights(prepared, weights, **{"classes": EXPRESSIONS, **SHAPE, **options})  # type: ignore[arg-type]


def support_set(
    classifier: Classifier, features: Tensor, episode: Episode, taught: slice = slice(None)
) -> SupportSet:
    """The support set that a session has after the examples of an episode were added."""
    return classifier.build_support_set(
        [
            Example(example_id=str(index), label=label, features=features[index].numpy())
            for label, images in zip(episode.classes[taught], episode.support[taught], strict=True)
            for index in images
        ]
    )


@pytest.mark.parametrize("name", ["all_parts_weights", "weights"])
def test_episodes_are_scored_as_the_service_scores(
    prepared: PreparedImages, name: str, request: pytest.FixtureRequest
) -> None:
    classifier = Classifier(load_checkpoint(request.getfixturevalue(name)))
    features = encode_images(classifier, prepared)
    scorer = RelationScorer(classifier, features)
    episodes, chosen, asked = next(sampler(prepared).draw_batches(3, np.random.default_rng(0)))
    asked = asked.reshape(3, -1)
    all_scores, all_parts = scorer.class_scores(chosen, asked), scorer.class_parts(chosen, asked)
    thresholds = scorer.thresholds(chosen)
    assert all_parts.shape == (3, 6, 3, len(classifier.part_names))
    for number, episode in enumerate(episodes):
        support = support_set(classifier, features, episode)
        served = classifier.score(support, features[asked[number]].numpy())
        assert thresholds[number].item() == pytest.approx(support.unknown_below, abs=1e-6)
        for scores, parts, ranked in zip(all_scores[number], all_parts[number], served, strict=True):
            by_label = {score.label: score for score in ranked}
            for label, score, of_parts in zip(episode.classes, scores.tolist(), parts.tolist(), strict=True):
                # Halves are kept in float16 over many episodes.
                assert score == pytest.approx(by_label[label].score, abs=2e-3)
                by_part = dict(zip(scorer.part_names, of_parts, strict=True))
                assert by_part == pytest.approx(by_label[label].parts, abs=2e-3)
    if name == "all_parts_weights":
        assert 0 < thresholds.min() < thresholds.max() < 1


def test_an_image_and_its_twin_never_meet_in_an_episode(prepared: PreparedImages, weights: Path) -> None:
    twins = dataclasses.replace(prepared, contents=np.array([f"{index // 2}" for index in range(32)]))
    with pytest.raises(EpisodeImpossible, match="'anger' has 8 in 4 groups"):
        measured(twins, weights, shot=3, query=2)


def test_an_evaluation_repeats_with_its_seed_and_counts_every_query(
    mixed: PreparedImages, all_parts_weights: Path
) -> None:
    first, again, other = (
        measured(mixed, all_parts_weights, seed=seed).evaluation.summary() for seed in (0, 0, 1)
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
    accuracies = evaluation.episode_accuracies
    same = Difference.of(accuracies, accuracies)
    assert (same.difference, same.ci95) == (0, 0)


@pytest.mark.parametrize("baseline", ["cosine", "landmarks", "geometry"])
def test_baselines_meet_the_weights_on_the_same_episodes(
    mixed: PreparedImages, all_parts_weights: Path, baseline: str
) -> None:
    report = measured(mixed, all_parts_weights, against=(baseline,), parts=True)
    (comparison,) = report.against
    other = comparison.evaluation
    assert other.accuracy > 1 / 3 + other.ci95
    differences = report.evaluation.episode_accuracies - other.episode_accuracies
    assert comparison.difference.difference == pytest.approx(differences.mean())
    assert comparison.difference.ci95 == pytest.approx(1.96 * differences.std(ddof=1) / 70**0.5)
    if baseline != "landmarks":
        assert other.accuracy == pytest.approx(report.parts[baseline].alone)


def test_cosine_needs_no_cosine_part(prepared: PreparedImages, weights: Path) -> None:
    report = measured(prepared, weights, against=("cosine",))
    assert report.against[0].evaluation.accuracy > 1 / 3 + report.against[0].evaluation.ci95
    classifier = Classifier(load_checkpoint(weights))
    maps = classifier.network.unpack(encode_images(classifier, prepared)).maps
    vectors = torch.nn.functional.normalize(maps.mean(dim=(-2, -1)).flatten(1), dim=1)
    episode = sampler(prepared).draw(np.random.default_rng(0))
    means = torch.nn.functional.normalize(
        maps.mean(dim=(-2, -1)).flatten(1)[torch.from_numpy(episode.support)].mean(dim=1), dim=1
    )
    predicted = (vectors[torch.from_numpy(episode.query.ravel())] @ means.T).argmax(dim=1)
    first = (predicted.numpy() == np.arange(3).repeat(2)).mean()
    assert report.against[0].evaluation.episode_accuracies[0] == first


def test_geometry_is_not_compared_where_there_is_none(prepared: PreparedImages, weights: Path) -> None:
    with pytest.raises(CheckpointInvalid, match=r"seeded\.safetensors has no geometry to compare with"):
        measured(prepared, weights, against=("geometry",))


def test_weights_of_another_patch_layout_are_compared(
    mixed: PreparedImages, weights: Path, all_parts_weights: Path
) -> None:
    """Each checkpoint sees the patches that it was trained on, not those of the other."""
    one, other = (measured(mixed, path).evaluation for path in (weights, all_parts_weights))
    (comparison,) = measured(mixed, weights, against=(str(all_parts_weights),)).against
    np.testing.assert_array_equal(comparison.evaluation.episode_accuracies, other.episode_accuracies)
    assert comparison.evaluation.weights_sha256 == other.weights_sha256 != one.weights_sha256
    assert comparison.difference.difference == pytest.approx(one.accuracy - other.accuracy)


def test_weights_do_not_differ_from_themselves(prepared: PreparedImages, all_parts_weights: Path) -> None:
    report = measured(prepared, all_parts_weights, against=(str(all_parts_weights), "landmarks"))
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
    prepared: PreparedImages, all_parts_weights: Path, tmp_path: Path
) -> None:
    draw_confusion(measured(prepared, all_parts_weights).evaluation, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as drawn:
        assert drawn.format == "PNG"
        assert min(drawn.size) > 400
        colours = drawn.convert("RGB").getcolors(maxcolors=10**6)
    assert colours is not None
    assert len(colours) > 50


@pytest.mark.parametrize("left_out", ["face", "prototype", "cosine", "geometry"])
def test_parts_are_measured_as_weights_without_them(
    mixed: PreparedImages, all_parts_weights: Path, tmp_path: Path, left_out: str
) -> None:
    parts = measured(mixed, all_parts_weights, parts=True).parts
    assert any(part.alone < 0.9 for part in parts.values()), "the samples are too easy to show a difference"
    assert tuple(parts) == ("face", "eyes", "lips", "prototype", "cosine", "geometry")
    without = save_untrained(tmp_path / "without.safetensors", ALL_PARTS.model_copy(update={left_out: 0.0}))
    (comparison,) = measured(mixed, all_parts_weights, against=(str(without),)).against
    part = parts[left_out]
    assert part.without == pytest.approx(comparison.evaluation.accuracy)
    assert part.difference == comparison.difference
    others = dict.fromkeys({*ALL_PARTS.by_name()} - {left_out}, 0.0)
    alone = save_untrained(tmp_path / "alone.safetensors", ALL_PARTS.model_copy(update=others))
    report = measured(mixed, alone, parts=True)
    assert part.alone == report.evaluation.accuracy == report.parts[left_out].alone
    # Its weight is the only one: nothing is left to be compared with.
    assert (report.parts[left_out].without, report.parts[left_out].difference) == (None, None)
    assert all(found.difference is not None for name, found in report.parts.items() if name != left_out)


def test_the_summary_has_a_row_per_part(mixed: PreparedImages, all_parts_weights: Path) -> None:
    report = measured(mixed, all_parts_weights, parts=True)
    rows = report.summary()["parts"]
    assert isinstance(rows, dict)
    for name, row in rows.items():
        part = report.parts[name]
        assert part.difference is not None
        assert row == {
            "alone": part.alone,
            "without": part.without,
            "difference": pytest.approx(report.evaluation.accuracy - row["without"]),
            "difference_ci95": part.difference.ci95,
        }
    assert "parts" not in measured(mixed, all_parts_weights).summary()


def test_unknown_is_measured_by_the_sessions_own_threshold(
    mixed: PreparedImages, all_parts_weights: Path
) -> None:
    """Three classes are taught, the fourth is asked about, and the service would say the same."""
    result = measured(mixed, all_parts_weights, episodes=12).unknown
    assert result is not None
    assert (result.way, result.shot) == (3, 2)
    classifier = Classifier(load_checkpoint(all_parts_weights))
    features = encode_images(classifier, mixed)
    drawn, _, asked = next(sampler(mixed, way=4).draw_batches(12, np.random.default_rng(0)))
    known, absent = [], []
    for episode, queries in zip(drawn, asked, strict=True):
        support = support_set(classifier, features, episode, slice(3))
        ranked = classifier.score(support, features[queries.ravel()].numpy())
        margins = [scores[0].score - support.unknown_below for scores in ranked]
        known += margins[:6]
        absent += margins[6:]
    # One query may lie within rounding of its threshold.
    assert result.known_kept == pytest.approx(np.mean(np.array(known) >= 0), abs=1.5 / len(known))
    assert result.absent_told == pytest.approx(np.mean(np.array(absent) < 0), abs=1.5 / len(absent))
    higher = np.array(known)[:, None] > np.array(absent)
    assert result.auroc == pytest.approx(higher.mean(), abs=0.01)
    assert result.auroc > 0.5


@pytest.mark.parametrize(
    ("classes", "way", "taught"), [(4, 4, 3), (3, 2, 2), (2, 2, 1), (2, 1, 1), (1, 1, None)]
)
def test_one_class_is_left_to_be_unknown(
    prepared: PreparedImages, all_parts_weights: Path, classes: int, way: int, taught: int | None
) -> None:
    report = measured(prepared, all_parts_weights, classes=EXPRESSIONS[:classes], way=way, episodes=3)
    assert (None if report.unknown is None else report.unknown.way) == taught
    summary = report.summary()["unknown"]
    assert summary == (None if report.unknown is None else dataclasses.asdict(report.unknown))


def test_thresholds_are_judged_per_episode() -> None:
    best = BestScores(
        support=np.zeros((2, 3, 5), dtype=np.int64),
        known=np.array([[0.75, 0.5], [0.875, 0.5]]),
        absent=np.array([[0.5, 0.25], [0.625, 0.25]]),
    )
    result = judge_thresholds(best, np.array([0.5, 0.625]))
    # At the threshold a query is known. Margins in eighths: 2, 0, 2, -1 and 0, -2, 0, -3.
    assert (result.known_kept, result.absent_told, result.way, result.shot) == (0.75, 0.5, 3, 5)
    assert result.auroc == pytest.approx((4 + 3 + 4 + 2) / 16)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    rng = np.random.default_rng(0)
    higher, lower = rng.integers(2, 12, 300) / 10, rng.integers(0, 10, 200) / 10
    pairs = (higher[:, None] > lower) + 0.5 * (higher[:, None] == lower)
    assert area_under_roc(higher, lower) == pytest.approx(pairs.mean())
    assert area_under_roc(lower, lower) == pytest.approx(0.5)
    assert area_under_roc(lower + 1, lower) == 1.0


def votes(**counts: int) -> list[int]:
    names = (
        *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
        *("unknown", "no_face"),
    )
    assert set(counts) <= set(names)
    return [counts.get(name, 0) for name in names]


def test_the_majority_of_votes_names_the_label() -> None:
    cases = [
        (votes(neutral=6, happiness=4), "neutral"),
        (votes(happiness=10), "happy"),
        (votes(surprise=4, neutral=3, fear=3), "surprise"),
        (votes(sadness=8, unknown=2), "sad"),
        (votes(anger=9, no_face=1), "angry"),
        (votes(disgust=5, anger=4), "disgust"),
        (votes(fear=6, surprise=4), "fear"),
        (votes(contempt=7, neutral=3), "contempt"),
        (votes(fear=5, surprise=5), ""),
        (votes(neutral=4, unknown=4), ""),
        (votes(unknown=6, sadness=4), ""),
        (votes(no_face=10), ""),
        (votes(), ""),
    ]
    labels = majority_labels(np.array([row for row, _ in cases]))
    assert labels.tolist() == [label for _, label in cases]


def test_images_without_a_majority_are_skipped(prepared: PreparedImages) -> None:
    with pytest.raises(DatasetInvalid, match="none of the 32 images has votes with a majority"):
        label_by_votes(prepared)
    given = np.array([votes()] * 32)
    given[3], given[7], given[9] = votes(contempt=9), votes(sadness=5, fear=5), votes(happiness=6, fear=4)
    labelled = label_by_votes(dataclasses.replace(prepared, votes=given))
    assert labelled.labels.tolist() == ["contempt", "happy"]
    assert labelled.sources.tolist() == prepared.sources[[3, 9]].tolist()
    np.testing.assert_array_equal(
        labelled.patches(slice(None), "tight"), prepared.patches(np.array([3, 9]), "tight")
    )


def test_persons_divide_and_make_personal_the_episodes_of_an_evaluation(
    mixed: PreparedImages, all_parts_weights: Path
) -> None:
    """Two persons with four images or so of each label: strangers to each other, or each alone."""
    persons = dataclasses.replace(mixed, persons=np.array(["P", "P", "Q", "Q"] * 8))
    plain, divided, personal = (
        measured(images, all_parts_weights, personal=is_personal, shot=1, query=1).evaluation
        for images, is_personal in ((mixed, False), (persons, False), (persons, True))
    )
    assert len({plain.accuracy, divided.accuracy, personal.accuracy}) == 3
    with pytest.raises(EpisodeImpossible, match=r"'anger' has 8 images of 2 persons$"):
        measured(persons, all_parts_weights, shot=7, query=1)
    with pytest.raises(EpisodeImpossible, match="with 8 images each of 3 classes; none of the 2 persons has"):
        measured(persons, all_parts_weights, shot=6, personal=True)
    # All four classes of a person are taught, so one of them is left out to be unknown.
    unknown = measured(persons, all_parts_weights, way=4, shot=1, query=1, personal=True).unknown
    assert unknown is not None
    assert unknown.way == 3
