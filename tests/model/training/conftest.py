from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.training.prepared import PreparedImages, load_prepared
from tests.support.training import prepare_samples, small_training


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_samples(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def prepared(prepared_folder: Path) -> PreparedImages:
    return load_prepared(prepared_folder)


@pytest.fixture(scope="package", autouse=True)
def small() -> Iterator[None]:
    with small_training():
        yield
