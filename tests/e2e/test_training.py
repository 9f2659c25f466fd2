"""Offline training from the command line: prepare, train, a kill in the middle, convert."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_checkpoint
from tests.support.command_line import csrn, csrn_succeeds
from tests.support.golden import seeded_network
from tests.support.networks import assert_same_weights
from tests.support.samples import EXPRESSIONS, SAMPLES

CSRN = Path(sys.executable).with_name("csrn")
BRIEFLY = """
    --encoder conv4 --warmup-steps 40 --warmup-batch 4 --steps 2 --way 2 --shot 1 --query 1
    --episodes-per-step 1 --no-bfloat16 --save-every 20
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Sums over several threads may round differently from run to run."""
    torch.set_num_threads(1)


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
    report = csrn_succeeds("prepare fer2013", root / "source", root / "prepared")
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
    assert ended.code == 0, ended.stderr
    assert f"wrote {weights.name}" in ended.stderr.replace("\n", "").replace(f"{weights.parent}/", "")
    return weights


def test_training_takes_the_training_split_by_default(trained: Path) -> None:
    provenance = load_checkpoint(trained).provenance
    assert provenance.trained_on == "prepared, train images of anger, happiness, sadness, surprise"
    assert provenance.recipe["images"] == 4 * (6 - 3), "three of each class are held out"


def test_a_killed_run_resumes_with_the_result_of_an_uninterrupted_one(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    weights, state = tmp_path / "killed.safetensors", tmp_path / "killed.run" / "warm-up.pt"
    command = [str(CSRN), "train", str(data), "--out", str(weights), *BRIEFLY.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CSRN_DEVICE": "cpu"}
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not state.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not weights.exists()
    csrn_succeeds("train", data, "--out", weights, BRIEFLY)
    assert_same_weights(weights, trained)


def test_convert_makes_weights_from_a_published_pair(tmp_path: Path) -> None:
    network = seeded_network()
    torch.save(network.encoder.state_dict(), tmp_path / "encoder.pth")
    torch.save(network.relation.state_dict(), tmp_path / "relation.pth")
    csrn_succeeds(
        "convert", tmp_path / "encoder.pth", tmp_path / "relation.pth", tmp_path / "out.safetensors"
    )
    converted = load_checkpoint(tmp_path / "out.safetensors").network.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(converted[name], tensor)
