"""Make a development set of new expressions: photos of neutral faces, warped by their landmarks.

    .venv/bin/python -m tests.make_expressions NEUTRAL OUT

NEUTRAL is a folder of photos, one person each. The output is OUT/<expression>/<photo's name>.jpg, with the
same names for each expression:

    csrn prepare folder OUT data/expressions --person '/([^/]+)\\.jpg$'
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import cv2
import numpy as np
import typer
from PIL import Image

from model.vision.images import IMAGE_SUFFIXES, RGBImage, decode_image
from model.vision.landmarks import LandmarkFinder, Landmarks
from model.vision.patches import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from tests.support.face_warp import Floats, carried, close_eye, fill_cavity, open_mouth, resample, source_map

SEED = 0

# FaceMesh indices; right is the subject's, which is the left of the picture.
HELD = {
    "right_brow_inner": [107, 55, 66, 65],
    "left_brow_inner": [336, 285, 296, 295],
    "right_brow_outer": [70, 46, 105, 63, 53, 52],
    "left_brow_outer": [300, 276, 334, 293, 283, 282],
    "right_lid": [159, 158, 160],
    "left_lid": [386, 385, 387],
    "right_mouth_corner": [61, 185, 146, 78],
    "left_mouth_corner": [291, 409, 375, 308],
    "upper_lip": [0, 37, 267, 13, 82, 312],
    "lower_lip": [17, 84, 314, 14, 87, 317],
    "chin": [152, 148, 377, 176, 400, 175],
}
"""Groups of landmarks that keep their position while other groups move"""
GROUPS = {
    **HELD,
    "right_cheek": [50, 101, 118, 117, 205],
    "left_cheek": [280, 330, 347, 346, 425],
    "right_lower_lid": [145, 144, 153],
    "left_lower_lid": [374, 373, 380],
}
LIPS = [
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
]
Moves = dict[str, tuple[float, float]]
"""Displacements (right, down) of landmark groups in eye spans, in an upright picture"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expression:
    """The changes to a neutral face."""

    moves: Moves = dataclasses.field(default_factory=dict)
    lips: tuple[float, float] = (1.0, 1.0)
    """Width and height of the lips, relative to the neutral face"""
    closed_eyes: tuple[str, ...] = ()
    gap: float = 0.0
    """Distance that the lower lip moves down, in eye spans"""


def paired(moves: Moves) -> Moves:
    """Expand displacements (outward, down) of pairs of groups, such as brows, to the right and left group."""
    return {
        f"{side}_{group}": (outward * x, y)
        for group, (x, y) in moves.items()
        for side, outward in (("right", -1), ("left", 1))
    }


WINK_LEFT = {
    "left_brow_inner": (-0.01, 0.03),
    "left_brow_outer": (0, 0.045),
    "left_cheek": (0.01, -0.05),
    "left_lower_lid": (0, -0.015),
    "left_mouth_corner": (0.03, -0.035),
}
WINK_RIGHT = {group.replace("left", "right"): (-x, y) for group, (x, y) in WINK_LEFT.items()}
LOPSIDED = {"left_mouth_corner": (0.11, -0.12), "left_cheek": (0.02, -0.05), "left_lower_lid": (0, -0.02)}
RAISED = paired({"brow_inner": (0, -0.1), "brow_outer": (0, -0.1), "lid": (0, -0.012)})
LOWERED = paired(
    {"brow_inner": (-0.05, 0.09), "brow_outer": (-0.015, 0.05), "lid": (0, 0.025), "lower_lid": (0, -0.01)}
)
EXPRESSIONS = {
    "neutral": Expression(),
    "wink_left": Expression(closed_eyes=("left",), moves=WINK_LEFT),
    "wink_right": Expression(closed_eyes=("right",), moves=WINK_RIGHT),
    "eyes_closed": Expression(closed_eyes=("right", "left")),
    "mouth_open": Expression(gap=0.25, lips=(0.92, 1.25)),
    "pucker": Expression(lips=(0.66, 1.3), moves={"chin": (0, -0.01)}),
    "lopsided_smile": Expression(moves=LOPSIDED),
    "brows_raised": Expression(moves=RAISED),
    "brows_lowered": Expression(moves=LOWERED),
}


def express(image: RGBImage, face: Landmarks, expression: Expression, *, strength: float) -> RGBImage:
    """Give the face another expression; strength scales all movements except the closing of eyes."""
    height, width = image.shape[:2]
    source = source_map(width, height, face.points_px, _shifts_px(face, expression, strength))
    points = carried(face.points_px, source)
    light, cavity = np.ones((height, width, 1)), np.zeros((height, width, 1))
    for side in expression.closed_eyes:
        closing, lashes = close_eye(width, height, points, side)
        source, light = resample(source, closing, cv2.INTER_LINEAR), light * lashes
    if expression.gap:
        gap_px = strength * expression.gap * _eye_span_px(face)
        opening, cavity = open_mouth(width, height, points, gap_px=gap_px)
        source = resample(source, opening, cv2.INTER_LINEAR)
    warped = fill_cavity(resample(image, source, cv2.INTER_CUBIC), cavity, face.points_px)
    return (warped * light).astype(np.uint8)


def _shifts_px(face: Landmarks, expression: Expression, strength: float) -> dict[int, Floats]:
    """The shift of each landmark; sideways shifts shrink with the apparent width of a turned face."""
    points = face.points_px.astype(np.float64)
    right = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    narrow = float(np.linalg.norm(right)) / _eye_span_px(face)
    right /= np.linalg.norm(right)
    down = np.array([-right[1], right[0]])
    unit = strength * _eye_span_px(face)
    shifts: dict[int, Floats] = {}
    if expression.lips != (1.0, 1.0):
        wider, higher = (1 + strength * (factor - 1) for factor in expression.lips)
        from_middle = points[LIPS] - points[LIPS].mean(axis=0)
        moved = np.outer(from_middle @ right, (wider - 1) * right)
        moved += np.outer(from_middle @ down, (higher - 1) * down)
        shifts.update(zip(LIPS, moved, strict=True))
    elif expression.moves:
        shifts.update((index, np.zeros(2)) for indices in HELD.values() for index in indices)
    for group, (x, y) in expression.moves.items():
        shift = unit * (x * narrow * right + y * down)
        shifts.update(dict.fromkeys(GROUPS[group], shift))
    return shifts


def _eye_span_px(face: Landmarks) -> float:
    """Distance between the outer corners of the eyes in 3D, which does not shrink when the head turns."""
    ends = [LEFT_EYE_OUTER, RIGHT_EYE_OUTER]
    x, y = face.points_px[ends[0]] - face.points_px[ends[1]]
    z = face.depths_px[ends[0]] - face.depths_px[ends[1]]
    return float(np.sqrt(x * x + y * y + z * z))


def make_expressions(neutral: Path, out: Path) -> None:
    """Write each expression of each face in a folder of photos of neutral faces, one person each."""
    finder = LandmarkFinder()
    for path in sorted(neutral.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        image = decode_image(path.read_bytes()).pixels
        faces = finder.find(image)
        if not faces:
            print(f"{path.name}: no face found, skipped")
            continue
        rng = np.random.default_rng([SEED, zlib.crc32(path.stem.encode())])
        for name, expression in EXPRESSIONS.items():
            folder = out / name
            folder.mkdir(parents=True, exist_ok=True)
            warped = express(image, faces[0], expression, strength=rng.uniform(0.85, 1.15))
            Image.fromarray(warped).save(folder / f"{path.stem}.jpg", quality=92)
    finder.close()


if __name__ == "__main__":
    typer.run(make_expressions)
