from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint, CheckpointConfig, Provenance, load_checkpoint, save_checkpoint
from model.vision.faces import FaceReader
from model.vision.patches import LAYOUTS
from tests.support.golden import seeded_network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that both workers are busy to the end."""
    slow = ("deploy", "e2e", "fuzz", "training")
    items.sort(key=lambda item: item.path.parent.name not in slow)


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
