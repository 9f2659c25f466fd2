from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from model.errors import DatasetInvalid
from model.training.landmark_components import LandmarkComponents
from model.training.prepared import PreparedImages
from model.training.targets import (
    MIRROR_BLENDSHAPES,
    VOTED,
    build_targets,
    label_by_votes,
    majority_labels,
    shows_another_class,
    vote_shares,
    voted_names,
)
from model.vision.blendshapes import BLENDSHAPE_NAMES

SEVEN = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
BASE = ("happy", "neutral", "sad", "surprise")


def votes(**counts: int) -> list[int]:
    """One image's votes by class name; also `unknown` and `no_face`."""
    return [counts.get(name, 0) for name in (*VOTED, "unknown", "no_face")]


VOTES = np.array(
    [
        votes(happy=8, neutral=2),
        votes(sad=4, fear=6),
        votes(sad=6, fear=4),
        votes(contempt=7, neutral=3),
        votes(happy=3, unknown=7),
        votes(neutral=5, sad=5),
        votes(),
    ]
)


def test_the_majority_of_votes_names_the_label() -> None:
    assert voted_names(VOTES, SEVEN).tolist() == ["happy", "fear", "sad", "contempt", "", "", ""]
    others = {"surprise": votes(surprise=4, neutral=3, fear=3), "angry": votes(angry=9, no_face=1)}
    assert majority_labels(np.array([*others.values()])).tolist() == [*others]
    without = [votes(neutral=4, unknown=4), votes(unknown=6, sad=4), votes(no_face=10)]
    assert majority_labels(np.array(without)).tolist() == [""] * 3


def test_images_without_a_majority_are_skipped(prepared: PreparedImages) -> None:
    with pytest.raises(DatasetInvalid, match="none of the 32 images has votes with a majority"):
        label_by_votes(prepared)
    given = np.array([votes()] * 32)
    given[3], given[7], given[9] = votes(contempt=9), votes(sad=5, fear=5), votes(happy=6, fear=4)
    labelled = label_by_votes(dataclasses.replace(prepared, votes=given))
    assert labelled.labels.tolist() == ["contempt", "happy"]
    assert labelled.sources.tolist() == prepared.sources[[3, 9]].tolist()
    np.testing.assert_array_equal(
        labelled.patches(slice(None), "tight"), prepared.patches(np.array([3, 9]), "tight")
    )


def test_vote_shares_are_soft_targets_over_the_classes_that_are_trained_on() -> None:
    shares = vote_shares(VOTES, SEVEN)
    assert shares.shape == (7, 8), "with all of FER2013's classes contempt is the eighth"
    assert shares[0, VOTED.index("happy")] == pytest.approx(0.8)
    assert shares[3, VOTED.index("contempt")] == pytest.approx(0.7)
    assert not shares[[4, 6]].any(), "most annotators did not know, and there are no votes"
    few = vote_shares(VOTES, BASE)
    assert few.shape == (7, 4)
    assert few[2].tolist() == [0, 0, 0, 1], "votes for a class that is not trained on leave no trace"


def test_an_image_of_another_expression_is_recognised_by_its_votes() -> None:
    assert shows_another_class(VOTES, BASE).tolist() == [False, True, False, True, True, False, False]
    assert shows_another_class(VOTES, SEVEN).tolist() == [False] * 4 + [True, False, False]


def test_left_and_right_change_places_in_a_mirror_image() -> None:
    left, right = BLENDSHAPE_NAMES.index("eyeBlinkLeft"), BLENDSHAPE_NAMES.index("eyeBlinkRight")
    jaw = BLENDSHAPE_NAMES.index("jawOpen")
    assert MIRROR_BLENDSHAPES[[left, right, jaw]].tolist() == [right, left, jaw]
    assert MIRROR_BLENDSHAPES[MIRROR_BLENDSHAPES].tolist() == [*range(52)]


def test_blendshapes_are_targets_where_the_teacher_found_a_face(prepared: PreparedImages) -> None:
    coefficients = np.random.default_rng(0).random((len(prepared.all_landmarks), 52), dtype=np.float32)
    coefficients[prepared.rows[4]] = np.nan
    images = dataclasses.replace(prepared, all_blendshapes=coefficients)
    components = LandmarkComponents.fit(prepared.landmarks()[..., :2], count=4)
    classes = tuple(sorted(set(prepared.labels.tolist())))
    targets = build_targets(images, components, classes=classes)
    assert targets.has_blendshapes.sum() == len(prepared) - 1
    assert not targets.blendshapes[4].any()
    seen, mirrored = targets.blendshapes[:, 0], targets.blendshapes[:, 1]
    assert seen[5].std() > 0.5
    left, right = BLENDSHAPE_NAMES.index("eyeBlinkLeft"), BLENDSHAPE_NAMES.index("eyeBlinkRight")
    order = np.argsort(np.nan_to_num(images.blendshapes()[:, right]))
    kept = order[targets.has_blendshapes[order] == 1]
    assert (np.diff(mirrored[kept, left]) >= -1e-5).all(), "in a mirror the right eye is the left one"
    assert "blendshapes" in targets.by_name()
    without = build_targets(prepared, components, classes=classes)
    assert set(without.by_name()) == {"labels", "components"}
