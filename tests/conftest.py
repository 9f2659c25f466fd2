from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.checkpoint import Checkpoint, CheckpointConfig, Provenance, load_checkpoint, save_checkpoint
from model.vision.faces import FaceReader
from model.vision.patches import LAYOUTS
from tests.support.golden import seeded_network

SAMPLES = Path(__file__).parents[1] / "app" / "samples"
EXPRESSIONS = ("anger", "happiness", "sadness", "surprise")
LOCAL = {"host": "127.0.0.1"}
"""Headers of who asks for this machine: without keys the service answers to no other name"""
SHARED = Path(__file__).parents[2] / "shared"

needs_shared_faces = pytest.mark.skipif(
    not (SHARED / "faces").is_dir(), reason="needs the 237 real photos, which the project does not ship"
)

FER2013_ZIP, FERPLUS_CSV = SHARED / "data" / "fer2013.zip", SHARED / "data" / "ferplus.csv"
needs_fer2013 = pytest.mark.skipif(
    not (FER2013_ZIP.is_file() and FERPLUS_CSV.is_file()),
    reason="needs FER2013 and the votes of FER+, which the project does not ship",
)
FACE_LANDMARKER = SHARED / "data" / "face_landmarker.task"
needs_face_landmarker = pytest.mark.skipif(
    not FACE_LANDMARKER.is_file(), reason="needs the Face Landmarker bundle, which the project does not ship"
)


def sample_bytes(expression: str, index: int) -> bytes:
    return (SAMPLES / expression / f"{index:02}.jpg").read_bytes()


def sample_image(expression: str, index: int) -> Image.Image:
    return Image.open(SAMPLES / expression / f"{index:02}.jpg").convert("RGB")


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def two_faces() -> bytes:
    both = np.hstack([np.asarray(sample_image("anger", 0)), np.asarray(sample_image("happiness", 0))])
    return encoded(Image.fromarray(both))


def no_face() -> bytes:
    return encoded(Image.new("RGB", (200, 200), (90, 120, 60)))


@pytest.fixture(scope="session")
def reader() -> Iterator[FaceReader]:
    """One reader for all tests: FaceMesh takes a moment to start."""
    reader = FaceReader(LAYOUTS["squares"])
    yield reader
    reader.close()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file with the seeded weights, for what does not depend on how good weights are."""
    path = tmp_path_factory.mktemp("weights") / "seeded.safetensors"
    provenance = Provenance(trained_on="nothing: seeded for tests")
    save_checkpoint(path, seeded_network(), config=CheckpointConfig(), provenance=provenance)
    return path


@pytest.fixture(scope="session")
def checkpoint(weights: Path) -> Checkpoint:
    return load_checkpoint(weights)


@pytest.fixture(scope="session")
def shipped_weights() -> Path:
    """The weights that users get."""
    return Path(__file__).parents[1] / "weights" / "csrn-fer2013.safetensors"
