"""Data that the project does not ship. Tests that need it are skipped where it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared"
FER2013_ZIP, FERPLUS_CSV = SHARED / "data" / "fer2013.zip", SHARED / "data" / "ferplus.csv"
FACE_LANDMARKER = SHARED / "data" / "face_landmarker.task"

needs_shared_faces = pytest.mark.skipif(
    not (SHARED / "faces").is_dir(), reason="needs the 237 real photos, which the project does not ship"
)
needs_fer2013 = pytest.mark.skipif(
    not (FER2013_ZIP.is_file() and FERPLUS_CSV.is_file()),
    reason="needs FER2013 and the votes of FER+, which the project does not ship",
)
needs_face_landmarker = pytest.mark.skipif(
    not FACE_LANDMARKER.is_file(), reason="needs the Face Landmarker bundle, which the project does not ship"
)
