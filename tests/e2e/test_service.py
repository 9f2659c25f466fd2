"""The service as a process of its own, with the shipped weights, used as its users use it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from csrn_client import AsyncClient, Client, ServiceProblem
from tests.support.api import assert_problem, image, teach
from tests.support.command_line import csrn_succeeds
from tests.support.samples import EXPRESSIONS, SAMPLES, no_face, sample_bytes
from tests.support.service import Service, csrn
from tests.support.shared_data import SHARED, needs_shared_faces


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service"), CSRN_DRAIN_S="1.5", CSRN_ROOT_PATH="/faces") as service:
        yield service


def classify(client: httpx.Client, path: str, images: list[bytes]) -> list[list[dict[str, Any]]]:
    """The faces in each image."""
    response = client.post(f"{path}/classify", files=[image(data) for data in images])
    assert response.status_code == 200, response.text
    return [result["faces"] for result in response.json()["results"]]


def test_the_shipped_weights_recognise_most_sample_expressions(service: Service) -> None:
    path = teach(service.client, dict.fromkeys(EXPRESSIONS, 3))
    expected = [expression for expression in EXPRESSIONS for _ in range(3, 8)]
    queries = [sample_bytes(expression, index) for expression in EXPRESSIONS for index in range(3, 8)]
    predicted = [face["predicted"] for (face,) in classify(service.client, path, queries)]
    assert sum(a == b for a, b in zip(predicted, expected, strict=True)) >= 15, predicted


@needs_shared_faces
def test_faces_are_found_in_real_photos(service: Service) -> None:
    folder = SHARED / "faces"
    labels = sorted(entry.name for entry in folder.iterdir())
    path = teach(service.client, dict.fromkeys(labels, 5), folder=folder)
    added = sum(item["examples"] for item in service.client.get(path).json()["classes"])
    queries = [(folder / label / f"{index:02}.jpg").read_bytes() for label in labels for index in (5, 6, 7)]
    found = sum(bool(faces) for faces in classify(service.client, path, queries))
    assert added + found >= 46, "of 48"


def test_the_python_client_covers_the_api(service: Service) -> None:
    images = {label: [SAMPLES / label / f"{index:02}.jpg" for index in range(4)] for label in EXPRESSIONS}
    support = [(label, file) for label in ("anger", "surprise") for file in images[label][:2]]
    with Client(service.url) as client:
        session = client.create_session(name="a", ttl_s=60, metadata={"k": 1})
        assert client.get_session(session.id) == session
        added = client.add_support(session.id, [*support, ("none", no_face())])
        assert [rejected.code for rejected in added.rejected] == ["no_face"]
        client.add_examples(session.id, "a b 笑", images["sadness"][:2], example_ids=["one", "t:wo"])
        assert client.get_class(session.id, "a b 笑").example_ids == ["one", "t:wo"]
        client.delete_example(session.id, "a b 笑", "t:wo")
        client.replace_class(session.id, "surprise", images["surprise"][2:])
        assert client.get_quality(session.id).labels == ["anger", "a b 笑", "surprise"]
        (result,) = client.classify(session.id, [images["anger"][3]], unknown_below=0.0).results
        assert result.filename == "03.jpg"
        assert result.faces[0].predicted == result.faces[0].scores[0].label
        copy = client.import_session(client.export_session(session.id))
        assert copy.classes == client.get_session(session.id).classes
        client.delete_class(copy.id, "anger")
        client.delete_session(session.id)
        with pytest.raises(ServiceProblem) as raised:
            client.get_session(session.id)
        assert raised.value.code == "session_not_found"
        assert copy.id in {listed.id for listed in client.list_sessions(limit=1000).sessions}
        assert (
            client.classify_stateless(support, [images["anger"][3]]).model.weights_sha256
            == copy.weights_sha256
        )
        assert client.get_model().weights_sha256 == copy.weights_sha256

    async def predict() -> list[str | None]:
        async with AsyncClient(service.url) as client:
            session = await client.create_session()
            await client.add_support(session.id, support)
            queries = (client.classify(session.id, [images[label][3]]) for label in ("anger", "surprise"))
            return [results.results[0].faces[0].predicted for results in await asyncio.gather(*queries)]

    assert asyncio.run(predict()) == ["anger", "surprise"]


def test_the_stream_classifies_frames_and_refuses_large_ones(service: Service) -> None:
    path = teach(service.client, {"anger": 3, "surprise": 3})
    with connect(service.url.replace("http", "ws") + f"{path}/stream") as socket:
        for index, expression in enumerate(("anger", "surprise")):
            socket.send(sample_bytes(expression, 5))
            answer = json.loads(socket.recv(30))
            assert (answer["index"], answer["faces"][0]["predicted"]) == (index, expression)
        with pytest.raises(ConnectionClosed) as raised:  # noqa: PT012
            socket.send(bytes(10 * 2**20 + 1))
            socket.recv(30)
        # A client that is still sending may find the connection closed before it reads the reason.
        assert raised.value.rcvd is None or raised.value.rcvd.code == 1009


def test_csrn_classify_gives_the_same_scores_with_and_without_a_service(
    service: Service, tmp_path: Path
) -> None:
    query = tmp_path / os.fsdecode(b"not-utf-8-\xff.jpg")
    query.write_bytes(sample_bytes("surprise", 7))
    scores = []
    for url in ("", f"--url {service.url}"):
        result = json.loads(csrn_succeeds("classify --support", SAMPLES, "--json", query, url))
        assert result["filename"] == rf"{tmp_path}/not-utf-8-\xff.jpg"
        (face,) = result["faces"]
        scores.append({score["label"]: score["score"] for score in face["scores"]})
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    left = service.client.get("/v1/sessions", params={"limit": 1000}).json()["sessions"]
    assert "csrn classify" not in {session["name"] for session in left}


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("STORE", "mysql://x", "expected sqlite"),
        ("WEIGHTS", __file__, __file__),
        ("API_KEYS", "ann:sha256:s3cret", "entry 1"),
        ("API_KEYS", "", "CSRN_ALLOW_ANONYMOUS"),
    ],
)
def test_serve_says_in_one_line_why_a_setting_is_unusable(setting: str, value: str, said: str) -> None:
    host = "0.0.0.0" if value == "" else "127.0.0.1"
    failed = csrn("serve", "--port", "0", "--host", host, **{f"CSRN_{setting}": value})
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("csrn: ")
    assert said in failed.stderr
    assert "s3cret" not in failed.stdout + failed.stderr


def test_a_port_that_is_in_use_is_reported(service: Service, tmp_path: Path) -> None:
    refused = csrn(
        "serve", "--port", str(service.port), CSRN_STORE=f"sqlite:///{tmp_path}/s", CSRN_DEVICE="cpu"
    )
    assert refused.returncode == 1
    assert "address already in use" in refused.stderr
    assert str(service.port) in refused.stderr


def test_a_service_that_shuts_down_completes_its_requests_and_closes_its_streams(service: Service) -> None:
    """This is the last test of the file, because it stops the service."""
    path, query = (
        teach(service.client, dict.fromkeys(EXPRESSIONS, 1)),
        sample_bytes("anger", 4),
    )
    with ThreadPoolExecutor() as pool:
        with connect(service.url.replace("http", "ws") + f"{path}/stream") as stream:
            stream.send(query)
            assert '"faces"' in str(stream.recv(20))
            begun = pool.submit(classify, service.client, path, [query] * 60)
            time.sleep(0.1)
            ending = pool.submit(service.stop)
            time.sleep(0.3)
            for root_path in ("", "/faces"):
                assert_problem(httpx.get(f"{service.url}{root_path}/readyz"), 503, "not_ready")
            # A proxy that has not noticed yet is still served.
            assert httpx.get(f"{service.url}{path}").status_code == 200
            with pytest.raises(ConnectionClosed):
                stream.recv(20)
            assert stream.close_code == 1012
        assert len(begun.result(30)) == 60
        assert ending.result(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/livez")
