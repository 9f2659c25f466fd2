from __future__ import annotations

import dataclasses

import numpy as np

from model.training.landmark_components import LandmarkComponents
from model.training.prepared import PreparedImages
from model.training.targets import (
    MIRROR_BLENDSHAPES,
    build_targets,
)
from model.vision.blendshapes import BLENDSHAPE_NAMES


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
