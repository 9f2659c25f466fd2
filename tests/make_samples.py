"""Make app/samples: one public-domain portrait, warped by its landmarks into four expressions.

    .venv/bin/python -m tests.make_samples

The portrait is scikit-image's `astronaut`: Eileen Collins, photographed by NASA, public domain. The samples
serve to try the service; they do not show how accurate it is on real expressions.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from model.vision.landmarks import Points
from model.vision.patches import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from tests.support.portrait import face_crop
from tests.support.warp import GROUPS, Moves, paired, resample, source_map

SAMPLES = Path(__file__).parents[1] / "app" / "samples"
IMAGES_PER_EXPRESSION = 8
SIDE_PX = 256

EXPRESSIONS: dict[str, Moves] = {
    "happiness": paired({"mouth_corner": (0.07, -0.05), "lid": (0, 0.015), "lower_lip": (0, 0.02)}),
    "surprise": paired(
        {
            "brow_inner": (0, -0.13),
            "brow_outer": (0, -0.12),
            "lid": (0, -0.04),
            "mouth_corner": (-0.1, 0.05),
            "lower_lip": (0, 0.13),
            "chin": (0, 0.12),
        }
    ),
    "sadness": paired(
        {
            "brow_inner": (-0.02, -0.09),
            "brow_outer": (0, 0.04),
            "lid": (0, 0.035),
            "mouth_corner": (-0.07, 0.14),
            "lower_lip": (0, -0.03),
        }
    ),
    "anger": paired(
        {
            "brow_inner": (-0.06, 0.11),
            "brow_outer": (-0.02, 0.02),
            "lid": (0, 0.03),
            "mouth_corner": (-0.11, 0.06),
            "upper_lip": (0, 0.03),
            "lower_lip": (0, -0.06),
        }
    ),
}


def main() -> None:
    portrait, points = face_crop()
    for expression, moves in EXPRESSIONS.items():
        folder = SAMPLES / expression
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(len(expression))
        for index in range(IMAGES_PER_EXPRESSION):
            warped = _warp(portrait, points, moves, strength=rng.uniform(0.75, 1.15))
            Image.fromarray(_vary(warped, rng)).save(folder / f"{index:02}.jpg", quality=88)


def _warp(
    image: npt.NDArray[np.uint8], points: Points, moves: Moves, *, strength: float
) -> npt.NDArray[np.uint8]:
    """Move groups of landmarks by their displacements times the strength; the other groups stay."""
    height, width = image.shape[:2]
    span = float(np.linalg.norm(points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]))
    shifts = {
        index: strength * span * np.array(moves.get(group, (0.0, 0.0)))
        for group, indices in GROUPS.items()
        for index in indices
    }
    return resample(image, source_map(width, height, points, shifts))


def _vary(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Crop, rotate and light the image at random."""
    height, width = image.shape[:2]
    scale = SIDE_PX / width * rng.uniform(1.0, 1.2)
    to_sample = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-8, 8), scale)
    shift = np.array([SIDE_PX / 2 - width / 2, SIDE_PX / 2 - height / 2])
    to_sample[:, 2] = to_sample[:, 2] + shift + rng.uniform(-10, 10, 2)
    framed = cv2.warpAffine(
        image, to_sample, (SIDE_PX, SIDE_PX), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    lit = framed * rng.uniform(0.8, 1.15) + rng.uniform(-10, 10)
    varied: npt.NDArray[np.uint8] = np.clip(lit, 0, 255).astype(np.uint8)
    return varied


if __name__ == "__main__":
    main()
