"""The score below which no class is predicted: computed for the session, or set by the request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from model.checkpoint import CheckpointConfig, Provenance, save_checkpoint
from model.unknown import UnknownRule
from tests.support.api import client_of, sample, teach
from tests.support.networks import save_full_checkpoint
from tests.support.samples import no_face, sample_bytes

# The terms are a constant, the log of the way, 1 / shots, and one that these weights have no part for.
RULE = UnknownRule(several=(0, 0, 0, 0), single=(0.2, 0.1, 0.15, 0))


def save_untrained(folder: Path, rule: UnknownRule) -> Path:
    """Untrained weights that have the four published parts alone."""
    path, config = folder / "w.safetensors", CheckpointConfig(unknown_rule=rule)
    torch.manual_seed(0)
    save_checkpoint(path, config.build_network(), config=config, provenance=Provenance(trained_on="nothing"))
    return path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("service")
    with client_of(save_untrained(folder, RULE), folder) as client:
        yield client


def classify(client: TestClient, path: str, **options: Any) -> dict[str, Any]:
    response = client.post(f"{path}/classify", files=[sample("anger", 5)], data=options)
    assert response.status_code == 200
    results: dict[str, Any] = response.json()
    return results


@pytest.mark.parametrize(
    ("shots_of_class", "threshold"),
    [
        ({"anger": 1}, 0.2 + 0.15),
        ({"anger": 3}, 0.2 + 0.15 / 3),
        ({"anger": 1, "happiness": 1}, 0.2 + 0.1 * 0.693147 + 0.15),
        ({"anger": 3, "happiness": 1, "sadness": 1}, 0.2 + 0.1 * 1.098612 + 0.15 * (1 / 3 + 1 + 1) / 3),
    ],
)
def test_every_result_states_the_threshold_of_the_session(
    client: TestClient, shots_of_class: dict[str, int], threshold: float
) -> None:
    path = teach(client, shots_of_class)
    assert classify(client, path)["unknown_below"] == pytest.approx(threshold, abs=1e-5)
    quality = client.get(f"{path}/quality").json()
    assert quality["unknown_below"] == pytest.approx(threshold, abs=1e-5)
    with client.websocket_connect(f"{path}/stream") as stream:
        for frame in (sample_bytes("anger", 5), no_face()):
            stream.send_bytes(frame)
            assert stream.receive_json()["unknown_below"] == pytest.approx(threshold, abs=1e-5)
    support = [(label, index) for label, shots in shots_of_class.items() for index in range(shots)]
    files = [*(sample(label, index, "support") for label, index in support), sample("anger", 5)]
    stateless = client.post("/v1/classify", files=files, data={"labels": [label for label, _ in support]})
    assert stateless.json()["unknown_below"] == pytest.approx(threshold, abs=1e-5)


@pytest.mark.parametrize(("constant", "known"), [(0.0, True), (1.0, False)])
def test_the_threshold_of_the_session_decides_what_is_predicted(
    tmp_path: Path, constant: float, known: bool
) -> None:
    rule = UnknownRule(several=(0, 0, 0, 0), single=(constant, 0, 0, 0))
    with client_of(save_untrained(tmp_path, rule), tmp_path) as client:
        for shots_of_class in ({"anger": 1}, {"anger": 2, "happiness": 2}):
            path = teach(client, shots_of_class)
            answer = classify(client, path)
            assert answer["unknown_below"] == constant
            with client.websocket_connect(f"{path}/stream") as stream:
                stream.send_bytes(sample_bytes("anger", 5))
                for (face,) in (answer["results"][0]["faces"], stream.receive_json()["faces"]):
                    assert face["predicted"] == (face["scores"][0]["label"] if known else None)


def test_the_threshold_of_the_request_replaces_that_of_the_session(client: TestClient) -> None:
    path = teach(client, {"anger": 1, "happiness": 1})
    best = classify(client, path)["results"][0]["faces"][0]["scores"][0]
    for own, predicted in ((0.0, best["label"]), (best["score"], best["label"]), (1.0, None)):
        answer = classify(client, path, unknown_below=own)
        assert answer["unknown_below"] == own
        assert answer["results"][0]["faces"][0]["predicted"] == predicted
        assert client.get(f"{path}/quality").json()["unknown_below"] != own
    with client.websocket_connect(f"{path}/stream?unknown_below=1") as stream:
        stream.send_bytes(sample_bytes("anger", 5))
        answer = stream.receive_json()
    assert (answer["unknown_below"], answer["faces"][0]["predicted"]) == (1.0, None)


def test_disabled_classes_do_not_count_for_the_threshold(client: TestClient) -> None:
    path = teach(client, {"anger": 3, "happiness": 1})
    client.patch(f"{path}/classes/happiness", json={"enabled": False})
    of_anger_alone = pytest.approx(0.2 + 0.15 / 3, abs=1e-5)
    assert classify(client, path)["unknown_below"] == of_anger_alone
    assert client.get(f"{path}/quality").json()["unknown_below"] == of_anger_alone


def test_without_classes_there_is_no_threshold(client: TestClient) -> None:
    path = teach(client, {})
    assert client.get(f"{path}/quality").json()["unknown_below"] is None
    for query, stated in (("", None), ("?unknown_below=0.5", 0.5)):
        with client.websocket_connect(f"{path}/stream{query}") as stream:
            for frame in (sample_bytes("anger", 5), b"no image"):
                stream.send_bytes(frame)
                assert stream.receive_json()["unknown_below"] == stated


def test_results_have_the_parts_and_the_regions_of_the_weights(tmp_path: Path) -> None:
    with client_of(save_full_checkpoint(tmp_path / "w.safetensors"), tmp_path) as client:
        path = teach(client, {"anger": 1, "happiness": 1})
        (face,) = classify(client, path, regions="true")["results"][0]["faces"]
        model = client.get("/v1/model").json()
    for score in face["scores"]:
        assert [*score["parts"]] == ["face", "eyes", "lips", "prototype", "cosine", "votes", "geometry"]
        assert all(0 <= value <= 1 for value in score["parts"].values())
    for part_name, shape in (("face", 1.0), ("eyes", 1.4 / 0.8), ("lips", 1.2 / 0.8)):
        (left, top), (right, _), _, (_, bottom) = face["regions"][part_name]
        assert (right - left) / (bottom - top) == pytest.approx(shape, abs=0.15)
    assert (model["encoder"], model["patch_layout"], model["patch_size"]) == ("resnet", "tight", 48)
    assert model["part_weights"]["geometry"] == 0.5
