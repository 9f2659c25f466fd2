"""Principal components of aligned landmarks, and clusters of faces.

The components describe the shape of a face by its 468 points, without its size, position and rotation in the
image. They serve as a regression target beside noisy labels, and as a source of classes
without label noise for training episodes.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

from model.vision.landmarks import Points
from model.vision.patches import LEFT_EYE_OUTER, RIGHT_EYE_OUTER

ALIGNMENT_ROUNDS = 3
CHOSEN_COMPONENTS = 0.4
"""Share of the components that a clustering uses"""
CLUSTER_ROUNDS = 15

Shapes = npt.NDArray[np.complex128]
"""(faces, 468) complex: x + iy of each point, centred and scaled to unit norm"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandmarkComponents:
    """Whitened principal components of Procrustes-aligned landmarks (Gower, Psychometrika 1975)."""

    mean_shape: npt.NDArray[np.complex128]
    """(468,), with the eyes level"""
    center: npt.NDArray[np.float64]
    """(936,)"""
    axes: npt.NDArray[np.float64]
    """(936, components), each scaled to give unit variance"""

    @property
    def image_of(self) -> npt.NDArray[np.int64]:
        """(468,) index of each point's mirror image: the nearest point in the mirrored mean shape."""
        distances = np.abs(-np.conj(self.mean_shape)[:, None] - self.mean_shape)
        nearest: npt.NDArray[np.int64] = distances.argmin(axis=0)
        return nearest

    @classmethod
    def fit(cls, points: npt.NDArray[np.float32], *, count: int) -> LandmarkComponents:
        """Fit the first `count` components to points (faces, 468, 2)."""
        shapes = _normalised(points)
        mean = shapes[0]
        for _ in range(ALIGNMENT_ROUNDS):
            mean = _turned_to(shapes, mean).mean(axis=0)
            mean = mean / np.linalg.norm(mean)
        eye_line = mean[LEFT_EYE_OUTER] - mean[RIGHT_EYE_OUTER]
        mean = mean * np.conj(eye_line) / abs(eye_line)
        flat = _flat(_turned_to(shapes, mean))
        center = flat.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((flat - center).T))
        largest = np.argsort(-values)[:count]
        return cls(mean_shape=mean, center=center, axes=vectors[:, largest] / np.sqrt(values[largest]))

    def of(
        self, points: npt.NDArray[np.float32] | Points, *, mirrored: bool = False
    ) -> npt.NDArray[np.float32]:
        """Components (faces, count) float32 of points (faces, 468, 2), or of their mirror images."""
        shapes = _normalised(points)
        if mirrored:
            shapes = -np.conj(shapes)[:, self.image_of]
        flat = _flat(_turned_to(shapes, self.mean_shape))
        return ((flat - self.center) @ self.axes).astype(np.float32)


def cluster_faces(
    components: npt.NDArray[np.float32], *, clusters: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """K-means clusters (faces,) on a random, randomly weighted subset of the components (faces, count).

    Each call therefore groups the faces by other properties.
    """
    count = components.shape[1]
    chosen = rng.permutation(count)[: max(round(CHOSEN_COMPONENTS * count), 1)]
    weighted = np.ascontiguousarray(components[:, chosen] * rng.random(len(chosen), dtype=np.float32))
    centers = weighted[rng.choice(len(weighted), clusters, replace=False)]
    first = np.square(weighted[:, None] - centers).sum(axis=2).argmin(axis=1).astype(np.int32)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, CLUSTER_ROUNDS, 0.0)
    _, labels, _ = cv2.kmeans(weighted, clusters, first[:, None], stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return labels[:, 0].astype(np.int64)


def _normalised(points: npt.NDArray[np.float32]) -> Shapes:
    shapes = points[..., 0].astype(np.float64) + 1j * points[..., 1].astype(np.float64)
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    normalised: Shapes = shapes / np.linalg.norm(shapes, axis=1, keepdims=True)
    return normalised


def _turned_to(shapes: Shapes, mean: npt.NDArray[np.complex128]) -> Shapes:
    turns = (shapes * np.conj(mean)).sum(axis=1, keepdims=True)
    turned: Shapes = shapes * np.conj(turns) / np.abs(turns)
    return turned


def _flat(shapes: Shapes) -> npt.NDArray[np.float64]:
    return np.concatenate([shapes.real, shapes.imag], axis=1)
