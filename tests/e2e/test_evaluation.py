"""`csrn evaluate` as a researcher runs it: what it prints, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.checkpoint import CheckpointConfig, PartWeights, Provenance, load_checkpoint, save_checkpoint
from model.training.datasets import open_dataset
from model.training.prepare import prepare
from model.training.prepared import MANIFEST, read_manifest
from model.unknown import UnknownRule
from tests.support.samples import SAMPLES

VOTED = {"anger": "0 0 0 1 9 0 0 0 0 0", "happiness": "1 8 0 0 0 0 0 1 0 0", "sadness": "4 0 0 4 0 0 0 2 0 0"}
"""Votes of all images of an expression; those of sadness are tied, and surprise has none"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples with votes, as faces of two persons with four images of each expression."""
    out = tmp_path_factory.mktemp("data")
    with open_dataset("folder", SAMPLES) as dataset:
        prepare(dataset, out)
    rows = read_manifest(out / MANIFEST)
    for index, row in enumerate(rows):
        row.update(person=f"S{index % 2}", votes=VOTED.get(row["label"], ""))
    with (out / MANIFEST).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return out


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an untrained network with all parts."""
    config = CheckpointConfig(
        encoder="resnet",
        patches="tight",
        part_weights=PartWeights(cosine=2.0, geometry=1.0),
        unknown_rule=UnknownRule(several=(-0.01, 0, 0, 0), single=(0.3, 0, 0, 0)),
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_checkpoint(path, config.build_network(), config=config, provenance=Provenance(trained_on="nothing"))
    return path


def evaluate(data: Path, weights: Path, options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("csrn")), "evaluate", str(data), "--weights", str(weights)]
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *options.split()], capture_output=True, text=True, env=environment)


def evaluated(data: Path, weights: Path, options: str) -> dict[str, object]:
    """The JSON of an evaluation that succeeds."""
    ended = evaluate(data, weights, f"{options} --json")
    assert ended.returncode == 0, ended.stderr
    result: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return result


def test_the_json_of_the_contract_with_parts_and_baselines(data: Path, weights: Path) -> None:
    options = "--way 3 --shot 2 --episodes 20 --seed 3 --parts --against cosine --against geometry"
    result = evaluated(data, weights, options)
    accuracy = result["accuracy"]
    assert isinstance(accuracy, float)
    assert 0 <= accuracy <= 1
    assert (result["episodes"], result["way"], result["shot"], result["seed"]) == (20, 3, 2, 3)
    assert result["weights_sha256"] == load_checkpoint(weights).sha256
    unknown, parts, against = result["unknown"], result["parts"], result["against"]
    assert isinstance(unknown, dict)
    assert (unknown["way"], unknown["shot"]) == (3, 2)
    assert all(0 <= unknown[name] <= 1 for name in ("known_kept", "absent_told", "auroc"))
    assert isinstance(parts, dict)
    assert isinstance(against, list)
    assert set(parts) == {"face", "eyes", "lips", "prototype", "cosine", "geometry"}
    for part in parts.values():
        assert part["difference"] == pytest.approx(accuracy - part["without"])
        assert part["difference_ci95"] >= 0
    assert [entry["name"] for entry in against] == ["cosine", "geometry"]
    for entry in against:
        assert entry["difference"] == pytest.approx(accuracy - entry["accuracy"])
        assert entry["accuracy"] == pytest.approx(parts[entry["name"]]["alone"])


def test_one_class_alone_leaves_none_to_be_unknown(data: Path, weights: Path) -> None:
    result = evaluated(data, weights, "--way 1 --shot 1 --episodes 5 --classes anger")
    assert (result["accuracy"], result["unknown"], result["against"]) == (1.0, None, [])


def test_votes_name_the_classes(data: Path, weights: Path) -> None:
    result = evaluated(data, weights, "--labels votes --way 2 --shot 2 --episodes 5")
    assert set(result["per_class"]) == {"angry", "happy"}  # type: ignore[call-overload]
    assert result["unknown"]["way"] == 1  # type: ignore[index]


def test_personal_episodes_teach_all_classes_of_one_person(data: Path, weights: Path) -> None:
    result = evaluated(data, weights, "--personal --way 4 --shot 3 --episodes 10")
    assert result["unknown"]["way"] == 3  # type: ignore[index]
    assert len(result["per_class"]) == 4  # type: ignore[arg-type]


def test_people_get_tables(data: Path, weights: Path) -> None:
    printed = evaluate(data, weights, "--way 2 --shot 1 --episodes 5 --parts").stdout
    words = " ".join(printed.replace("┃", " ").replace("│", " ").split())
    assert "(2-way 1-shot, 5 episodes, seed 0, chance 50.0 %)" in words
    assert "part alone without it it adds" in words
    assert "unknown (2-way 1-shot, one more class):" in words
    assert "AUROC" in words


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ("--way 5", 1, "csrn: 5-way episodes need 5 classes, there are 4"),
        ("--shot 4 --query 5", 1, "need 9 images a class, 'anger' has 8"),
        ("--shot 5 --query 1", 1, "of images and persons 'anger' has 8 of 2"),
        ("--personal --shot 4", 1, "with 5 images of 3 classes; of 2 persons none has them of more than 0"),
        ("--labels votes --way 3", 1, "csrn: 3-way episodes need 3 classes, there are 2"),
        ("--labels guesses", 2, "guesses"),
        ("--against elsewhere.safetensors", 1, "csrn: elsewhere.safetensors: No such file or directory"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    data: Path, weights: Path, options: str, code: int, reason: str
) -> None:
    ended = evaluate(data, weights, options)
    assert ended.returncode == code
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
    if code == 1:
        assert sum(line.startswith("csrn: ") for line in ended.stderr.splitlines()) == 1
