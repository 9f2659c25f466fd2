"""`csrn evaluate`: its JSON, its tables, and its refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import load_checkpoint
from model.training.prepared import MANIFEST, read_manifest, write_manifest
from tests.support.api import client_of, sample, teach
from tests.support.command_line import csrn, csrn_succeeds
from tests.support.networks import FULL, save_full_checkpoint
from tests.support.samples import EXPRESSIONS
from tests.support.training import prepare_samples

VOTES = {"anger": "0 0 0 1 9 0 0 0 0 0", "happiness": "1 8 0 0 0 0 0 1 0 0", "sadness": "4 0 0 4 0 0 0 2 0 0"}
"""Votes for all images of an expression; those for sadness are tied, and surprise has none"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples with votes, as faces of two persons with four images of each expression."""
    out = prepare_samples(tmp_path_factory.mktemp("data"))
    rows = read_manifest(out / MANIFEST)
    for index, row in enumerate(rows):
        row.update(person=f"S{index % 2}", votes=VOTES.get(row["label"], ""))
    write_manifest(out / MANIFEST, rows)
    return out


@pytest.fixture(scope="module")
def full_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_full_checkpoint(tmp_path_factory.mktemp("weights") / "full.safetensors", FULL)


def evaluated(data: Path, weights: Path, *options: str | Path) -> dict[str, Any]:
    """The JSON of an evaluation that succeeds."""
    printed = csrn_succeeds("evaluate", data, "--weights", weights, *options, "--json")
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


def test_the_last_line_is_the_json_of_the_contract(data: Path, full_weights: Path) -> None:
    options = (
        "--way 3 --shot 2 --episodes 20 --seed 3 --parts --shot-curve 1 --against cosine --against geometry"
    )
    result = evaluated(data, full_weights, options, "--against", full_weights)
    accuracy, unknown, parts = result["accuracy"], result["unknown"], result["parts"]
    assert 0 <= accuracy <= 1
    assert result["ci95"] >= 0
    assert set(result["per_class"]) == set(EXPRESSIONS)
    assert (result["episodes"], result["way"], result["shot"], result["seed"]) == (20, 3, 2, 3)
    assert result["weights_sha256"] == load_checkpoint(full_weights).sha256
    assert (unknown["way"], unknown["shot"]) == (3, 2)
    assert all(0 <= unknown[name] <= 1 for name in ("known_kept", "absent_told", "auroc"))
    assert set(parts) == {"face", "eyes", "lips", "prototype", "cosine", "votes", "geometry"}
    for part in parts.values():
        assert part["difference"] == pytest.approx(accuracy - part["without"])
        assert part["difference_ci95"] >= 0
    *baselines, itself = result["against"]
    assert [entry["name"] for entry in baselines] == ["cosine", "geometry"]
    for entry in baselines:
        assert entry["difference"] == pytest.approx(accuracy - entry["accuracy"])
    assert baselines[1]["accuracy"] == pytest.approx(parts["geometry"]["alone"])
    assert (itself["difference"], itself["difference_ci95"]) == (0, 0)
    assert [point["shot"] for point in result["shot_curve"]] == [1]


def test_a_report_is_a_page_with_everything_in_it(data: Path, full_weights: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = evaluated(data, full_weights, "--way 4 --shot 2 --episodes 5 --report", page)
    assert [point["shot"] for point in result["shot_curve"]] == [1, 2, 3]
    assert set(result["parts"]) >= {"face", "eyes", "lips", "prototype"}
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/svg+xml;base64,") == 2
    assert result["weights_sha256"] in text
    assert f"{100 * result['accuracy']:.1f} <small>± {100 * result['ci95']:.1f} %" in text


def test_a_recorded_evaluation_is_in_the_weights(data: Path, full_weights: Path, tmp_path: Path) -> None:
    weights = tmp_path / "recorded.safetensors"
    shutil.copy(full_weights, weights)
    result = evaluated(data, weights, "--way 1 --shot 1 --episodes 5 --classes anger --record quick")
    assert (result["accuracy"], result["unknown"], result["against"]) == (1.0, None, [])
    recorded = load_checkpoint(weights)
    assert result["weights_sha256"] == recorded.sha256 == load_checkpoint(full_weights).sha256
    assert recorded.provenance.evaluation["quick"]["accuracy"] == 1.0


def test_sessions_outlive_a_recorded_evaluation_of_their_weights(
    data: Path, full_weights: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "served.safetensors"
    shutil.copy(full_weights, weights)
    with client_of(weights, tmp_path) as client:
        path = teach(client, {"anger": 2, "surprise": 2})
    before = weights.read_bytes()
    evaluated(data, weights, "--way 2 --shot 1 --episodes 5 --record quick")
    assert weights.read_bytes() != before
    with client_of(weights, tmp_path) as client:
        answer = client.post(f"{path}/classify", files=[sample("anger", 5)])
        assert len(answer.json()["results"][0]["faces"][0]["scores"]) == 2
        added = client.post(f"{path}/classes/anger/examples", files=[sample("anger", 3)])
        assert added.status_code == 201


def test_votes_name_the_classes(data: Path, full_weights: Path) -> None:
    result = evaluated(data, full_weights, "--labels votes --way 2 --shot 2 --episodes 5")
    assert set(result["per_class"]) == {"angry", "happy"}
    assert result["unknown"]["way"] == 1


def test_personal_episodes_have_all_classes_of_one_person(data: Path, full_weights: Path) -> None:
    result = evaluated(data, full_weights, "--personal --way 4 --shot 3 --episodes 10")
    assert result["unknown"]["way"] == 3
    assert len(result["per_class"]) == 4


def test_tables_are_printed_for_people(data: Path, full_weights: Path) -> None:
    options = "--way 2 --shot 1 --episodes 5 --parts --against cosine --shot-curve 2"
    printed = csrn_succeeds("evaluate", data, "--weights", full_weights, options)
    words = " ".join(printed.replace("┃", " ").replace("│", " ").split())
    for expected in (
        "label recall",
        "2-shot: accuracy",
        "(2-way 1-shot, 5 episodes, seed 0, chance 50.0 %)",
        "against cosine:",
        "part alone without it contribution",
        "unknown (2-way 1-shot, one absent class):",
        "AUROC",
    ):
        assert expected in words


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (
            "--classes anger,bored,shy",
            1,
            " has no classes 'bored', 'shy'; it has anger, happiness, sadness, surprise",
        ),
        ("--report report.png", 2, "end the name with .html"),
        ("--report /nowhere/report.html", 2, "there is no folder"),
        ("--way 5", 1, "csrn: 5-way episodes need 5 classes, there are 4"),
        ("--shot 4 --query 5", 1, "need 9 images a class, 'anger' has 8"),
        ("--shot 5 --query 1", 1, "query images of others: 'anger' has 8 images of 2 persons"),
        (
            "--personal --shot 4",
            1,
            "images each of 3 classes; none of the 2 persons has them for more than 0",
        ),
        ("--labels votes --way 3", 1, "csrn: 3-way episodes need 3 classes, there are 2"),
        ("--labels guesses", 2, "guesses"),
        ("--shot-curve few", 2, "needs numbers"),
        ("--against elsewhere.safetensors", 1, "csrn: elsewhere.safetensors: No such file or directory"),
    ],
)
def test_an_impossible_evaluation_is_refused_in_one_line(
    data: Path, full_weights: Path, options: str, code: int, reason: str
) -> None:
    ended = csrn("evaluate", data, "--weights", full_weights, options)
    assert ended.code == code
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
    if code == 1:
        assert sum(line.startswith("csrn: ") for line in ended.stderr.splitlines()) == 1
