from __future__ import annotations

import numpy as np
import pytest
from mediapipe.python.solutions.face_mesh import FaceMesh

from model.vision.landmarks import LandmarkFinder, muted_native_log
from tests.support.native_threads import native_threads
from tests.support.samples import EXPRESSIONS, sample_image


@pytest.mark.parametrize("tracking", [False, True])
def test_the_landmarks_are_those_of_mediapipes_own_face_mesh(tracking: bool) -> None:
    finder = LandmarkFinder(tracking=tracking)
    with muted_native_log():
        mesh = FaceMesh(static_image_mode=not tracking, min_detection_confidence=0.3)
        mesh.process(np.zeros((64, 64, 3), dtype=np.uint8))
    for expression in EXPRESSIONS:
        pixels = np.asarray(sample_image(expression, 0))
        with muted_native_log():
            (face,) = mesh.process(pixels).multi_face_landmarks
        expected = np.array([(point.x * 256, point.y * 256) for point in face.landmark])
        assert finder.find(pixels)[0].points_px == pytest.approx(expected, abs=1e-3)
    mesh.close()
    finder.close()


def test_finding_landmarks_starts_no_threads() -> None:
    LandmarkFinder().close()  # what is loaded only once has loaded now
    threads = native_threads()
    finder = LandmarkFinder()
    assert finder.find(np.asarray(sample_image("anger", 0)))
    assert native_threads() == threads
    finder.close()
