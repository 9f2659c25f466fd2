from __future__ import annotations

import numpy as np
import pytest
import torch

from model.checkpoint import Checkpoint, CheckpointConfig, PartWeights, Provenance
from model.classifier import Classifier
from model.network import CSRN, score_episodes
from model.support_set import Example, Features

WAY, SHOT, QUERIES = 3, 4, 5


@pytest.fixture(scope="module")
def classifier(checkpoint: Checkpoint) -> Classifier:
    return Classifier(checkpoint)


def random_features(*lead: int, seed: int = 0) -> Features:
    return np.random.default_rng(seed).random((*lead, 3, 64, 14, 14)).astype(np.float16)


def examples_of(features: Features) -> list[Example]:
    """Examples of (way, shot, ...) features, classes interleaved as clients send them."""
    way, shot = features.shape[:2]
    return [
        Example(example_id=f"{label}-{index}", label=f"class {label}", features=features[label, index])
        for index in range(shot)
        for label in range(way)
    ]


def test_encoding_is_the_networks_own(classifier: Classifier, checkpoint: Checkpoint) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    pixels = torch.from_numpy(patches).permute(0, 1, 4, 2, 3).float() / 255
    with torch.inference_mode():
        expected = checkpoint.network.encode(pixels).numpy()
    # float16 keeps 11 bits
    np.testing.assert_allclose(classifier.encode(patches), expected, rtol=1e-3, atol=1e-4)


def test_class_scores_order_classes_as_the_papers_sum(classifier: Classifier) -> None:
    support, query = random_features(WAY, SHOT), random_features(QUERIES, seed=1)
    with torch.inference_mode():
        episode = score_episodes(
            classifier.network, torch.from_numpy(support).float(), torch.from_numpy(query).float()
        )
    total = episode.pairs.sum(dim=(2, 3)) + 0.7 * SHOT * episode.prototypes
    ranked = classifier.score(classifier.build_support_set(examples_of(support)), query)
    for row, scores in zip(total, ranked, strict=True):
        order = row.argsort(descending=True).tolist()
        assert [score.label for score in scores] == [f"class {label}" for label in order]
        for score, label in zip(scores, order, strict=True):
            assert score.score == pytest.approx(row[label].item() / (3.7 * SHOT), abs=1e-5)


def test_parts_are_mean_relation_scores_whatever_the_shots(classifier: Classifier) -> None:
    features, query = random_features(1, SHOT), random_features(1, seed=1)
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


def test_with_one_shot_the_prototype_is_the_face(classifier: Classifier) -> None:
    (scores,) = classifier.score(
        classifier.build_support_set(examples_of(random_features(WAY, 1))), random_features(1, seed=1)
    )
    for score in scores:
        assert score.parts["prototype"] == pytest.approx(score.parts["face"], abs=1e-5)


def test_batched_scores_equal_single_scores(classifier: Classifier) -> None:
    support = classifier.build_support_set(examples_of(random_features(WAY, SHOT)))
    query = random_features(QUERIES, seed=1)
    for index, scores in enumerate(classifier.score(support, query)):
        (single,) = classifier.score(support, query[index : index + 1])
        assert [score.label for score in single] == [score.label for score in scores]
        for one, other in zip(single, scores, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_the_nearest_example_has_the_highest_mean_relation_score_of_its_class(
    classifier: Classifier,
) -> None:
    examples = examples_of(random_features(WAY, SHOT))
    query = random_features(1, seed=1)
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


def test_a_cosine_part_joins_the_four_and_counts_by_its_weight() -> None:
    torch.manual_seed(0)
    config = CheckpointConfig(encoder="resnet12", part_weights=PartWeights(cosine=2.0))
    network = config.build_network().eval()
    provenance = Provenance(trained_on="nothing")
    classifier = Classifier(Checkpoint(network=network, config=config, provenance=provenance, sha256=""))
    patches = np.random.default_rng(0).integers(0, 256, (7, 3, 64, 64, 3), dtype=np.uint8)
    features = classifier.encode(patches)
    assert features.shape == (7, 3, *network.encoder.feature_shape)
    support = classifier.build_support_set(examples_of(features[:6].reshape(3, 2, *features.shape[1:])))
    for score in classifier.score(support, features[6:])[0]:
        assert list(score.parts) == ["face", "eyes", "lips", "prototype", "cosine"]
        parts = score.parts
        total = parts["face"] + parts["eyes"] + parts["lips"] + 0.7 * parts["prototype"] + 2 * parts["cosine"]
        assert score.score == pytest.approx(total / 5.7, abs=1e-5)


def test_the_cosine_part_is_highest_for_the_class_of_the_same_direction() -> None:
    cosine = CSRN("resnet12", cosine=True).cosine
    assert cosine is not None
    means = torch.eye(3, 384)
    scores = cosine(means, 5 * means)
    assert scores.argmax(dim=1).tolist() == [0, 1, 2]
    assert (scores.diagonal() > 0.9).all()
    assert (scores - torch.diag(scores.diagonal()) < 0.1).all()


def test_the_cosine_part_compares_mapped_descriptors() -> None:
    cosine = CSRN("resnet12", cosine=True).cosine
    assert cosine is not None
    features = torch.rand(2, 3, 128, 8, 8)
    untaught = cosine.describe(features)
    torch.testing.assert_close(untaught, features.mean(dim=(-2, -1)).flatten(1))
    assert cosine.map_change() == 0
    with torch.no_grad():
        cosine.map.weight[5] *= 3
    assert cosine.map_change() == 4
    expected = untaught.clone()
    expected[:, 5] *= 3
    torch.testing.assert_close(cosine.describe(features), expected)


def test_scoring_many_support_sets_at_once_gives_what_each_gives_alone(classifier: Classifier) -> None:
    shapes = [(2, 3, 1), (5, 1, 4), (3, 40, 9), (1, 2, 2)]
    asked = [
        (
            classifier.build_support_set(examples_of(random_features(way, shot, seed=way))),
            random_features(queries, seed=10 + way),
        )
        for way, shot, queries in shapes
    ]
    together = classifier.score_all(asked)
    assert [len(answers) for answers in together] == [queries for _, _, queries in shapes]
    for (support, queries), answers in zip(asked, together, strict=True):
        for query, scores in zip(queries, answers, strict=True):
            (alone,) = classifier.score(support, query[None])
            assert [score.label for score in scores] == [score.label for score in alone]
            for one, other in zip(scores, alone, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-5)
                assert one.parts == pytest.approx(other.parts, abs=1e-5)
                assert one.nearest_example_id == other.nearest_example_id
