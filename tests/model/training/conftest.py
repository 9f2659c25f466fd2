from __future__ import annotations

from pathlib import Path

import pytest

from model.training.datasets import open_dataset
from model.training.prepare import prepare
from model.training.prepared import PreparedImages, load_prepared
from tests.support.samples import EXPRESSIONS, SAMPLES


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples, prepared: four expressions with eight faces each."""
    out = tmp_path_factory.mktemp("prepared")
    with open_dataset("folder", SAMPLES) as dataset:
        report = prepare(dataset, out)
    assert {label: counts["found"] for label, counts in report.items()} == dict.fromkeys(EXPRESSIONS, 8)
    return out


@pytest.fixture(scope="session")
def prepared(prepared_folder: Path) -> PreparedImages:
    return load_prepared(prepared_folder)
