from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import Checkpoint, load_checkpoint
from model.classifier import Classifier
from model.leave_one_out import leave_one_out
from model.support_set import Example
from tests.support.networks import full_checkpoint

SHOTS = {"a": 3, "b": 1, "c": 4}


def examples(checkpoint: Checkpoint) -> list[Example]:
    """In an order that mixes the classes."""
    rng = np.random.default_rng(0)
    numbers = checkpoint.network.numbers_per_face
    made = [
        Example(
            example_id=f"{label}{index}",
            label=label,
            features=rng.gamma(1.0, size=numbers).astype(np.float16),
        )
        for label, shots in SHOTS.items()
        for index in range(shots)
    ]
    return [made[index] for index in rng.permutation(len(made))]


@pytest.mark.parametrize("name", ["published", "full", "shipped"])
def test_each_example_is_scored_as_by_a_support_set_without_it(
    checkpoint: Checkpoint, shipped_weights: Path, name: str
) -> None:
    checkpoints = {
        "full": full_checkpoint(),
        "published": checkpoint,
        "shipped": load_checkpoint(shipped_weights),
    }
    classifier = Classifier(checkpoints[name])
    everything = examples(classifier.checkpoint)
    support = classifier.build_support_set(everything)
    for label in ("a", "c"):
        of_class = [example for example in everything if example.label == label]
        chunks = [range(0, 2), range(2, len(of_class))]
        found = [entry for some in chunks for entry in leave_one_out(classifier, support, of_class, some)]
        assert [entry.example_id for entry in found] == [example.example_id for example in of_class]
        for entry, example in zip(found, of_class, strict=True):
            others = [other for other in everything if other is not example]
            (scores,) = classifier.score(classifier.build_support_set(others), example.features[None])
            by_label = {score.label: score.score for score in scores}
            rival = max(score for other, score in by_label.items() if other != label)
            assert entry.margin == pytest.approx(by_label[label] - rival, abs=1e-4)
            if abs(entry.margin) > 1e-4:
                assert entry.predicted == scores[0].label


def test_a_mislabelled_example_is_detected(shipped_weights: Path) -> None:
    """Examples of two looks; one of the second look carries the label of the first."""
    classifier = Classifier(load_checkpoint(shipped_weights))
    rng = np.random.default_rng(0)
    looks = rng.gamma(1.0, size=(2, classifier.network.numbers_per_face))
    everything = [
        Example(
            example_id=f"{look}{index}",
            label="first" if look == 0 or index == 3 else "second",
            features=(looks[look] + 0.05 * rng.random(looks[look].shape)).astype(np.float16),
        )
        for look in (0, 1)
        for index in range(4)
    ]
    support = classifier.build_support_set(everything)
    first = [example for example in everything if example.label == "first"]
    found = leave_one_out(classifier, support, first, range(5))
    predicted = {entry.example_id: entry.predicted for entry in found}
    assert predicted == {"00": "first", "01": "first", "02": "first", "03": "first", "13": "second"}
