from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import load_checkpoint
from model.classifier import Classifier
from model.errors import DatasetInvalid, EpisodeImpossible
from model.training.datasets import open_dataset
from model.training.episodes import EpisodeSampler
from model.training.evaluate import evaluate
from model.training.prepare import MANIFEST, load_prepared, prepare
from model.training.train import Progress, TrainSettings, train
from tests.conftest import EXPRESSIONS, SAMPLES, no_face, sample_bytes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    with open_dataset("folder", SAMPLES) as dataset:
        report = prepare(dataset, out)
    assert {label: counts["found"] for label, counts in report.items()} == dict.fromkeys(EXPRESSIONS, 8)
    return out


def fer2013_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fer2013/train/happy/Training_1.jpg", sample_bytes("happiness", 0))
        archive.writestr("fer2013/train/angry/Training_2.jpg", no_face())
        archive.writestr("fer2013/test/angry/PublicTest_3.jpg", b"damaged")
        archive.writestr("fer2013/test/angry/PrivateTest_4.jpg", sample_bytes("anger", 0))
    return path


def test_fer2013_zip_is_prepared_by_split(tmp_path: Path) -> None:
    with open_dataset("fer2013", fer2013_zip(tmp_path / "f.zip")) as dataset:
        report = prepare(dataset, tmp_path / "out")
    assert report["angry"] == {"not_found": 1, "unreadable": 1, "found": 1}
    test = load_prepared(tmp_path / "out", split="test")
    assert (test.labels.tolist(), len(test.patches)) == (["angry"], 1)
    assert len(load_prepared(tmp_path / "out").labels) == 2
    with pytest.raises(DatasetInvalid, match="no split 'x'; it has test, train"):
        load_prepared(tmp_path / "out", split="x")


def test_an_interrupted_preparation_goes_on(prepared: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    with open_dataset("folder", SAMPLES) as dataset:
        prepare(dataset, tmp_path)
        manifest = tmp_path / MANIFEST
        lines = manifest.read_text().splitlines(keepends=True)
        manifest.write_text("".join(lines[:10]) + lines[10][:7])
        with pytest.raises(DatasetInvalid, match="run `csrn prepare` again"):
            load_prepared(tmp_path)
        prepare(dataset, tmp_path)
    assert manifest.read_text() == (prepared / MANIFEST).read_text()
    np.testing.assert_array_equal(load_prepared(tmp_path).patches, load_prepared(prepared).patches)


@pytest.mark.parametrize("name", ["fer2013", "folder"])
def test_a_wrong_layout_is_refused_with_what_is_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "stray.txt").touch()
    with pytest.raises(DatasetInvalid, match="expected"), open_dataset(name, tmp_path):
        pass


def test_episodes_draw_without_replacement_and_by_seed() -> None:
    labels = np.repeat(np.array(["a", "b", "c"]), 6)
    sampler = EpisodeSampler(labels, classes=("a", "b", "c"), way=2, shot=3, query=3)
    for seed in range(20):
        episode = sampler.draw(np.random.default_rng(seed))
        assert len(set(episode.classes)) == 2
        for label, support, query in zip(episode.classes, episode.support, episode.query, strict=True):
            images = [*support, *query]
            assert len(set(images)) == 6
            assert set(labels[images]) == {label}
        again = sampler.draw(np.random.default_rng(seed))
        np.testing.assert_array_equal(again.support, episode.support)


@pytest.mark.parametrize(
    ("shape", "reason"), [((4, 1, 1), "there are 3"), ((2, 5, 2), "'a' has 6"), ((0, 1, 1), "positive")]
)
def test_impossible_episodes_are_refused_with_the_counts(shape: tuple[int, int, int], reason: str) -> None:
    labels = np.repeat(np.array(["a", "b", "c"]), 6)
    way, shot, query = shape
    with pytest.raises(EpisodeImpossible, match=reason):
        EpisodeSampler(labels, classes=("a", "b", "c"), way=way, shot=shot, query=query)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums over several threads may round differently from run to run on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_stopped_run_ends_as_an_unbroken_one(prepared: Path, tmp_path: Path) -> None:
    settings = TrainSettings(
        classes=EXPRESSIONS, way=2, shot=1, query=1, steps=4, episodes_per_step=1, bfloat16=False
    )
    images = load_prepared(prepared)

    class Stopped(Exception):
        pass

    def stop_at_3(progress: Progress) -> None:
        if progress.step == 3:
            raise Stopped

    def run(name: str, **options: object) -> None:
        train(
            images,
            tmp_path / f"{name}.safetensors",
            settings,
            trained_on="samples",
            run_folder=tmp_path / name,
            save_every=2,
            **options,  # type: ignore[arg-type]
        )

    run("whole")
    with pytest.raises(Stopped):
        run("broken", progress=stop_at_3)
    run("broken")
    whole, broken = (tmp_path / f"{name}.safetensors" for name in ("whole", "broken"))
    assert load_checkpoint(whole).provenance.recipe["steps"] == 4
    # Tensor by tensor, not file by file: safetensors writes its two metadata entries in any order.
    one, other = (load_checkpoint(path) for path in (whole, broken))
    assert (one.config, one.provenance) == (other.config, other.provenance)
    expected = other.network.state_dict()
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name

    settings = dataclasses.replace(settings, seed=1)
    with pytest.raises(DatasetInvalid, match="other settings"):
        run("broken")


def test_evaluation_repeats_with_its_seed_and_counts_what_it_says(
    prepared: Path, shipped_weights: Path
) -> None:
    classifier = Classifier(load_checkpoint(shipped_weights))
    images = load_prepared(prepared)

    def measure(seed: int) -> object:
        return evaluate(
            classifier, images, classes=EXPRESSIONS, way=3, shot=2, query=2, episodes=30, seed=seed
        )

    first, again, other = measure(0), measure(0), measure(1)
    assert first == again != other
    assert dataclasses.asdict(first)["accuracy"] > 0.6  # type: ignore[call-overload]
