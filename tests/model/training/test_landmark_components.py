from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from model.training.landmark_components import LandmarkComponents, cluster_faces
from model.training.prepared import PreparedImages


@pytest.fixture(scope="module")
def points(prepared: PreparedImages) -> npt.NDArray[np.float32]:
    return prepared.landmarks()[..., :2]


def test_components_ignore_position_size_and_rotation(points: npt.NDArray[np.float32]) -> None:
    components = LandmarkComponents.fit(points, count=8)
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (3 * points @ turn + [40, -7]).astype(np.float32)
    np.testing.assert_allclose(components.of(moved), components.of(points), atol=2e-3)


def test_components_of_the_fitted_faces_are_white(
    points: npt.NDArray[np.float32],
) -> None:
    values = LandmarkComponents.fit(points, count=6).of(points)
    np.testing.assert_allclose(np.cov(values.T), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)


def test_mirroring_a_face_twice_restores_it(points: npt.NDArray[np.float32]) -> None:
    components = LandmarkComponents.fit(points, count=4)
    straight, once = components.of(points), components.of(points, mirrored=True)
    in_mirror = (points * [-1, 1]).astype(np.float32)[:, components.image_of]
    twice = components.of(in_mirror, mirrored=True)
    # The mean face is not quite its own mirror image: points change places with near neighbours.
    assert np.abs(twice - straight).mean() < 0.2 * np.abs(once - straight).mean()
    for right, left in ((33, 263), (133, 362)):
        assert (components.image_of[right], components.image_of[left]) == (left, right)


def test_clusters_separate_distant_faces_and_repeat_with_the_seed() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 10)) * 50
    components = (np.repeat(centers, 30, axis=0) + rng.normal(size=(120, 10))).astype(np.float32)
    clusterings = [
        cluster_faces(components, clusters=4, rng=np.random.default_rng(seed)) for seed in (0, 0, 1, 2)
    ]
    np.testing.assert_array_equal(clusterings[0], clusterings[1])
    pure = [len(set(clusters.reshape(4, 30)[group])) == 1 for clusters in clusterings for group in range(4)]
    assert sum(pure) >= 12
    whole = [sorted(np.bincount(clusters).tolist()) for clusters in clusterings]
    assert [30, 30, 30, 30] in whole
