"""The offline half as a researcher runs it: prepare, train, evaluate and convert, from the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from model.checkpoint import load_checkpoint
from tests.conftest import EXPRESSIONS, SAMPLES
from tests.support.golden import seeded_network

BRIEFLY = """
    --encoder conv4 --warmup-steps 2 --warmup-batch 4 --steps 2 --way 2 --shot 1 --query 1
    --episodes-per-step 1 --no-bfloat16
"""


def csrn(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the console script; it must succeed. Texts are split into words, paths are not."""
    words = [word for item in arguments for word in ([str(item)] if isinstance(item, Path) else item.split())]
    command = [str(Path(sys.executable).with_name("csrn")), *words]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples in Kaggle's layout, six of each expression to train on and two to test, prepared."""
    root = tmp_path_factory.mktemp("data")
    for label in EXPRESSIONS:
        for index in range(8):
            split, name = ("train", "Training") if index < 6 else ("test", "PublicTest")
            folder = root / "source" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(SAMPLES / label / f"{index:02}.jpg", folder / f"{name}_{index}.jpg")
    report = csrn("prepare", "fer2013", root / "source", root / "prepared").stdout
    header = "label images found found after padding not found unreadable duplicate"
    assert header in " ".join(report.replace("┃", " ").split())
    rows = [row.replace("│", " ").split() for row in report.splitlines()]
    assert ["anger", "8", "8", "0", "0", "0", "0"] in rows
    assert ["all", "32", "32", "0", "0", "0", "0"] in rows
    return root / "prepared"


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    weights = data.parent / "weights.safetensors"
    ended = csrn("train", data, "--out", weights, BRIEFLY)
    assert f"wrote {weights.name}" in ended.stderr.replace("\n", "").replace(f"{weights.parent}/", "")
    return weights


def test_training_takes_the_training_split_by_default(trained: Path) -> None:
    provenance = load_checkpoint(trained).provenance
    assert provenance.trained_on == "prepared, train images of anger, happiness, sadness, surprise"
    assert provenance.recipe["images"] == 4 * (6 - 3), "three of each class are held out"


def test_evaluation_ends_with_the_json_of_the_contract(data: Path, trained: Path, tmp_path: Path) -> None:
    options = "--way 3 --shot 1 --episodes 20 --seed 3 --split test --shot-curve 1 --json"
    against = ("--against", trained, "--against cosine --confusion-png", tmp_path / "confusion.png")
    ended = csrn("evaluate", data, "--weights", trained, options, *against)
    result = json.loads(ended.stdout.splitlines()[-1])
    assert 0 <= result["accuracy"] <= 1
    assert result["ci95"] > 0
    assert set(result["per_class"]) == set(EXPRESSIONS)
    assert (result["episodes"], result["way"], result["shot"], result["seed"]) == (20, 3, 1, 3)
    assert result["weights_sha256"] == load_checkpoint(trained).sha256
    itself, cosine = result["against"]
    assert (itself["difference"], itself["difference_ci95"]) == (0, 0)
    assert cosine["difference"] == pytest.approx(result["accuracy"] - cosine["accuracy"])
    assert [point["shot"] for point in result["shot_curve"]] == [1]
    with Image.open(tmp_path / "confusion.png") as drawn:
        assert drawn.format == "PNG"


def test_a_recorded_evaluation_is_in_the_weights_that_it_names(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "recorded.safetensors"
    shutil.copy(trained, weights)
    options = "--way 2 --shot 1 --episodes 5 --record quick --against cosine --json"
    result = json.loads(csrn("evaluate", data, "--weights", weights, options).stdout.splitlines()[-1])
    recorded = load_checkpoint(weights)
    assert result["weights_sha256"] == recorded.sha256 == load_checkpoint(trained).sha256
    assert recorded.provenance.evaluation["quick"]["accuracy"] == result["accuracy"]
    assert "unknown" in recorded.provenance.evaluation


def test_evaluation_prints_a_table_for_people(data: Path, trained: Path) -> None:
    printed = csrn(
        "evaluate", data, "--weights", trained, "--way", "2", "--shot", "1", "--episodes", "5"
    ).stdout
    assert "recall" in printed
    assert "% +-" in printed
    assert "(2-way 1-shot, 5 episodes, seed 0, chance 50.0 %)" in " ".join(printed.split())


def test_convert_makes_weights_of_a_published_pair(tmp_path: Path) -> None:
    network = seeded_network()
    torch.save(network.encoder.state_dict(), tmp_path / "encoder.pth")
    torch.save(network.relation.state_dict(), tmp_path / "relation.pth")
    csrn("convert", tmp_path / "encoder.pth", tmp_path / "relation.pth", tmp_path / "out.safetensors")
    converted = load_checkpoint(tmp_path / "out.safetensors").network.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(converted[name], tensor)
