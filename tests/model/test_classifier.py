from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from app.bench.plain import plain_scores
from app.inference.network import FaceBatch
from model.checkpoint import Checkpoint
from model.classifier import Classifier
from model.networks.csrn import FaceFeatures
from model.networks.episode_scores import score_episodes
from model.support_set import Example, Features
from tests.support.networks import FULL, full_checkpoint

WAY, SHOT, QUERIES = 3, 4, 5


@pytest.fixture(scope="module", params=["published", "full"])
def classifier(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Classifier:
    """The published network, and a network with every part."""
    return Classifier(checkpoint if request.param == "published" else full_checkpoint())


@pytest.fixture(scope="module")
def full() -> Classifier:
    return Classifier(full_checkpoint())


def random_features(classifier: Classifier, *lead: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    return rng.random((*lead, classifier.network.numbers_per_face)).astype(np.float16)


def random_faces(
    classifier: Classifier, count: int, *, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Patches and landmarks."""
    rng, side = np.random.default_rng(seed), classifier.checkpoint.config.layout.size_px
    patches = rng.integers(0, 256, (count, 3, side, side, 3), dtype=np.uint8)
    return patches, rng.random((count, 468, 2), dtype=np.float32)


def examples_of(features: Features) -> list[Example]:
    """Examples of (way, shot, ...) features, classes interleaved as clients send them."""
    way, shot = features.shape[:2]
    return [
        Example(example_id=f"{label}-{index}", label=f"class {label}", features=features[label, index])
        for index in range(shot)
        for label in range(way)
    ]


def faces_of(classifier: Classifier, features: Features) -> FaceFeatures:
    return classifier.network.unpack(torch.from_numpy(features))


def test_features_are_those_of_the_network(classifier: Classifier) -> None:
    network = classifier.network
    patches, points = random_faces(classifier, 2)
    pixels = torch.from_numpy(patches).permute(0, 1, 4, 2, 3).float() / 255
    found = faces_of(classifier, classifier.encode(patches, points))
    with torch.inference_mode():
        # float16 keeps 11 bits
        torch.testing.assert_close(found.maps, network.encode(pixels), rtol=1e-3, atol=1e-4)
        if network.geometry is not None:
            assert found.blendshapes is not None
            expected = network.geometry(torch.from_numpy(points))
            torch.testing.assert_close(found.blendshapes, expected, rtol=1e-3, atol=1e-4)
            assert expected.std(dim=0).max() > 0.01


def test_scores_equal_those_of_the_network_in_training(classifier: Classifier) -> None:
    support, query = random_features(classifier, WAY, SHOT), random_features(classifier, QUERIES, seed=1)
    with torch.inference_mode():
        faces = faces_of(classifier, support)
        parts = score_episodes(classifier.network, faces, faces_of(classifier, query)).class_parts()
        expected = classifier.class_scores(parts)
    ranked = classifier.score(classifier.build_support_set(examples_of(support)), query)
    for scores, of_query, parts_of_query in zip(ranked, expected, parts, strict=True):
        for score in scores:
            label = int(score.label.removeprefix("class "))
            assert [*score.parts] == [*classifier.part_names]
            assert [*score.parts.values()] == pytest.approx(parts_of_query[label].tolist(), abs=1e-5)
            assert score.score == pytest.approx(of_query[label].item(), abs=1e-5)


def test_the_plain_formulation_gives_the_same_scores(classifier: Classifier) -> None:
    patches, points = random_faces(classifier, WAY * SHOT + 1)
    features = classifier.encode(patches, points)
    faces = FaceBatch(patches=patches, points=points)
    expected = plain_scores(classifier, faces[:-1], faces[-1:], way=WAY)
    examples = examples_of(features[:-1].reshape(WAY, SHOT, -1))
    (scores,) = classifier.score(classifier.build_support_set(examples), features[-1:])
    found = {score.label: score.score for score in scores}
    # float16 features
    assert [found[f"class {label}"] for label in range(WAY)] == pytest.approx(expected.tolist(), abs=2e-3)


def test_class_scores_order_classes_as_the_papers_sum(checkpoint: Checkpoint) -> None:
    classifier = Classifier(checkpoint)
    support, query = random_features(classifier, WAY, SHOT), random_features(classifier, QUERIES, seed=1)
    with torch.inference_mode():
        faces = faces_of(classifier, support)
        episode = score_episodes(classifier.network, faces, faces_of(classifier, query))
    total = episode.pairs.sum(dim=(2, 3)) + 0.7 * SHOT * episode.prototypes
    ranked = classifier.score(classifier.build_support_set(examples_of(support)), query)
    for row, scores in zip(total, ranked, strict=True):
        order = row.argsort(descending=True).tolist()
        assert [score.label for score in scores] == [f"class {label}" for label in order]
        for score, label in zip(scores, order, strict=True):
            assert score.score == pytest.approx(row[label].item() / (3.7 * SHOT), abs=1e-5)


def test_parts_are_mean_relation_scores_for_any_number_of_shots(classifier: Classifier) -> None:
    features, query = random_features(classifier, 1, SHOT), random_features(classifier, 1, seed=1)
    one, many = examples_of(features[:, :1])[0], examples_of(features)
    twice = [one, *(Example(example_id=f"b{e.example_id}", label="b", features=e.features) for e in many)]
    (scores,) = classifier.score(classifier.build_support_set(twice), query)
    alone = {
        example.example_id: classifier.score(classifier.build_support_set([example]), query)[0][0]
        for example in many
    }
    by_label = {score.label: score for score in scores}
    for part in ("face", "eyes", "lips"):
        shots = [score.parts[part] for score in alone.values()]
        assert by_label["b"].parts[part] == pytest.approx(np.mean(shots), abs=1e-5)
        assert by_label["class 0"].parts[part] == pytest.approx(shots[0], abs=1e-5)


def test_the_nearest_example_has_the_highest_mean_relation_score_of_its_class(classifier: Classifier) -> None:
    examples = examples_of(random_features(classifier, WAY, SHOT))
    query = random_features(classifier, 1, seed=1)
    (scores,) = classifier.score(classifier.build_support_set(examples), query)
    for score in scores:
        alone = {
            example.example_id: sum(
                classifier.score(classifier.build_support_set([example]), query)[0][0].parts[part]
                for part in ("face", "eyes", "lips")
            )
            for example in examples
            if example.label == score.label
        }
        assert score.nearest_example_id == max(alone, key=lambda key: alone[key])


def test_added_parts_join_the_four_and_count_by_their_weights(full: Classifier) -> None:
    features = random_features(full, 7)
    support = full.build_support_set(examples_of(features[:6].reshape(3, 2, -1)))
    for score in full.score(support, features[6:])[0]:
        assert list(score.parts) == ["face", "eyes", "lips", "prototype", "cosine", "votes", "geometry"]
        parts = score.parts
        total = parts["face"] + parts["eyes"] + parts["lips"] + 0.7 * parts["prototype"]
        total += 2 * parts["cosine"] + parts["votes"] + 0.5 * parts["geometry"]
        assert score.score == pytest.approx(total / 7.2, abs=1e-5)


def test_the_cosine_part_compares_whitened_means_with_the_class_mean(full: Classifier) -> None:
    support, query = random_features(full, WAY, SHOT), random_features(full, 1, seed=1)
    pooled = full.network.pooled
    assert pooled is not None

    def described(features: Features) -> npt.NDArray[np.float32]:
        maps = faces_of(full, features).maps.numpy()
        means = (maps.mean(axis=(-2, -1)) - pooled.mean.numpy()) / pooled.deviation.numpy()
        return means.reshape(*features.shape[:-1], -1) @ pooled.whitening.numpy()  # type: ignore[no-any-return]

    (scores,) = full.score(full.build_support_set(examples_of(support)), query)
    (asked,) = described(query)
    for score in scores:
        mean = described(support)[int(score.label.removeprefix("class "))].mean(axis=0)
        cosine = asked @ mean / np.linalg.norm(asked) / np.linalg.norm(mean)
        assert score.parts["cosine"] == pytest.approx((1 + cosine) / 2, abs=1e-5)


def test_landmarks_change_the_geometry_part_and_no_other(full: Classifier) -> None:
    patches, points = random_faces(full, WAY + 1)
    support = full.build_support_set(examples_of(full.encode(patches[:WAY], points[:WAY])[:, None]))
    moved = points.copy()
    moved[WAY, 100:300] += 0.5
    (before,), (after,) = (
        full.score(support, full.encode(patches[WAY:], landmarks[WAY:])) for landmarks in (points, moved)
    )
    for label in support.labels:
        one, other = (next(s for s in scores if s.label == label).parts for scores in (before, after))
        assert abs(one.pop("geometry") - other.pop("geometry")) > 1e-3
        assert one == pytest.approx(other, abs=1e-6)


def test_geometry_tells_left_from_right() -> None:
    """Both faces have the same patches; one closes the left eye, the other the right."""
    checkpoint = full_checkpoint()
    classifier = Classifier(checkpoint)
    patches, points = random_faces(classifier, 1)
    features = np.repeat(classifier.encode(patches, points), 2, axis=0)
    names = ["eyeBlinkLeft", "eyeBlinkRight"]
    features[:, -52:] = 0.1
    for face, blendshape in enumerate((9, 10)):
        features[face, -52 + blendshape] = 0.9
    examples = [
        Example(example_id=name, label=name, features=of_face)
        for name, of_face in zip(names, features, strict=True)
    ]
    ranked = classifier.score(classifier.build_support_set(examples), features)
    assert [scores[0].label for scores in ranked] == names
    for scores in ranked:
        best, other = (score.parts for score in scores)
        assert best.pop("geometry") > other.pop("geometry") + 0.01
        assert best == pytest.approx(other, abs=1e-6)


def test_faces_encoded_together_have_the_features_of_each_alone(classifier: Classifier) -> None:
    patches, points = random_faces(classifier, 4)
    together = classifier.encode(patches, points)
    for index in range(4):
        alone = classifier.encode(patches[index : index + 1], points[index : index + 1])[0]
        np.testing.assert_allclose(together[index].astype(float), alone.astype(float), rtol=2e-3, atol=1e-3)


def test_a_support_set_computes_its_threshold(full: Classifier) -> None:
    features = random_features(full, 5, SHOT)
    for way, shot in itertools.product((1, 2, 5), (1, SHOT)):
        support = full.build_support_set(examples_of(features[:way, :shot]))
        assert 0 < support.unknown_below < 1
    config = FULL.model_copy(update={"unknown_rule": None})
    without = Classifier(full_checkpoint(config))
    assert without.build_support_set(examples_of(features)).unknown_below == 0.0


def test_a_threshold_does_not_depend_on_the_order_of_examples(full: Classifier) -> None:
    examples = examples_of(random_features(full, WAY, SHOT))
    forward, backward = full.build_support_set(examples), full.build_support_set(examples[::-1])
    assert forward.unknown_below == pytest.approx(backward.unknown_below, abs=1e-6)


def test_a_support_set_counts_all_the_memory_that_it_takes(classifier: Classifier) -> None:
    small, large = (
        classifier.build_support_set(examples_of(random_features(classifier, WAY, shot))) for shot in (1, 3)
    )
    tensors = [*vars(small.halves).values(), small.class_directions]
    assert small.size_bytes == sum(tensor.nbytes for tensor in tensors)
    assert large.size_bytes > 2 * small.size_bytes


def test_scoring_many_support_sets_at_once_gives_what_each_gives_alone(classifier: Classifier) -> None:
    shapes = [(2, 3, 1), (5, 1, 4), (3, 40, 9), (1, 2, 2)]
    requests = [
        (
            classifier.build_support_set(examples_of(random_features(classifier, way, shot, seed=way))),
            random_features(classifier, queries, seed=10 + way),
        )
        for way, shot, queries in shapes
    ]
    together = classifier.score_all(requests)
    assert [len(answers) for answers in together] == [queries for _, _, queries in shapes]
    for (support, queries), answers in zip(requests, together, strict=True):
        for query, scores in zip(queries, answers, strict=True):
            (alone,) = classifier.score(support, query[None])
            ranked = scores.ranked()
            assert [score.label for score in ranked] == [score.label for score in alone]
            for one, other in zip(ranked, alone, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-5)
                assert one.parts == pytest.approx(other.parts, abs=1e-5)
                assert one.nearest_example_id == other.nearest_example_id


def test_classifying_patches_gives_the_scores_of_their_stored_features(classifier: Classifier) -> None:
    requests = []
    for way, queries in ((2, 3), (4, 1)):
        patches, points = random_faces(classifier, queries, seed=way)
        support = classifier.build_support_set(examples_of(random_features(classifier, way, 2, seed=way)))
        requests.append((support, patches, points))
    stored = [(support, classifier.encode(patches, points)) for support, patches, points in requests]
    for found, expected in zip(classifier.classify(requests), classifier.score_all(stored), strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.parts, other.parts, atol=2e-3)
            np.testing.assert_allclose(one.scores, other.scores, atol=2e-3)


class CountOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of torch that compute something; a GPU runs at most a few kernels for each."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += int(not func.is_view)
        return func(*args, **(kwargs or {}))


def test_the_number_of_operations_does_not_grow_with_the_number_of_sessions(full: Classifier) -> None:
    def operations(sessions: int) -> int:
        patches, points = random_faces(full, sessions)
        requests = [
            (
                full.build_support_set(examples_of(random_features(full, 1 + number % 4, 1 + number % 3))),
                patches[number : number + 1],
                points[number : number + 1],
            )
            for number in range(sessions)
        ]
        counted = CountOperations()
        with counted:
            full.classify(requests)
        return counted.count

    assert 0 < operations(2) == operations(24) < 150
