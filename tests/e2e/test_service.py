"""The real service as a process of its own, used as its users use it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from app.bench.service_process import CSRN
from csrn_client import AsyncClient, Client, ServiceProblem
from tests.conftest import EXPRESSIONS, SAMPLES, SHARED, needs_shared_faces, no_face, sample_bytes
from tests.e2e.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"))
    yield service
    service.stop(signal.SIGTERM)


def teach(client: httpx.Client, folder: Path, labels: tuple[str, ...], shots: range) -> str:
    path: str = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
    images = [(folder / label / f"{index:02}.jpg").read_bytes() for label in labels for index in shots]
    response = client.post(
        f"{path}/support",
        files=[("images", ("face.jpg", image, "image/jpeg")) for image in images],
        data={"labels": [label for label in labels for _ in shots]},
    )
    assert response.status_code == 201, response.text
    return path


def found_faces(client: httpx.Client, path: str, images: list[bytes]) -> list[list[dict[str, Any]]]:
    """The answered faces of each query."""
    response = client.post(
        f"{path}/classify", files=[("images", ("q.jpg", image, "image/jpeg")) for image in images]
    )
    assert response.status_code == 200
    faces = [result["faces"] for result in response.json()["results"]]
    for found in faces:
        for face in found:
            scores = [score["score"] for score in face["scores"]]
            assert scores == sorted(scores, reverse=True)
            assert 0 <= scores[-1] <= scores[0] <= 1
    return faces


def predictions(client: httpx.Client, path: str, images: list[bytes]) -> list[str | None]:
    return [found[0]["predicted"] if found else None for found in found_faces(client, path, images)]


def test_the_shipped_weights_tell_the_taught_samples_apart(service: Service) -> None:
    path = teach(service.client, SAMPLES, EXPRESSIONS, range(3))
    queries = [sample_bytes(expression, index) for expression in EXPRESSIONS for index in range(3, 8)]
    truth = [expression for expression in EXPRESSIONS for _ in range(3, 8)]
    answers = predictions(service.client, path, queries)
    right = sum(answer == label for answer, label in zip(answers, truth, strict=True))
    assert right >= 15, answers


@needs_shared_faces
def test_real_photos_are_answered(service: Service) -> None:
    labels = tuple(sorted(folder.name for folder in (SHARED / "faces").iterdir()))
    path = teach(service.client, SHARED / "faces", labels, range(5))
    added = sum(item["examples"] for item in service.client.get(path).json()["classes"])
    queries = [(SHARED / "faces" / e / f"{index:02}.jpg").read_bytes() for e in labels for index in (5, 6, 7)]
    answered = sum(bool(found) for found in found_faces(service.client, path, queries))
    assert added + answered >= 46, "of 48"


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    first = Service(tmp_path)
    path = teach(first.client, SAMPLES, EXPRESSIONS, range(2))
    before = first.client.get(path).json()
    answer = predictions(first.client, path, [sample_bytes("anger", 5)])
    first.stop(signal.SIGKILL)
    second = Service(tmp_path)
    try:
        assert second.client.get(path).json() == before
        assert predictions(second.client, path, [sample_bytes("anger", 5)]) == answer
    finally:
        assert second.stop(signal.SIGTERM) == 0
    lines = [line for line in second.log_text.splitlines() if "ready: device cpu" in line]
    assert len(lines) == 2, "one start-up line for each of the two starts"


def test_the_python_client_does_all_that_the_api_does(service: Service) -> None:
    images = {
        expression: [SAMPLES / expression / f"{n:02}.jpg" for n in range(4)] for expression in EXPRESSIONS
    }
    with Client(service.url) as client:
        session = client.create_session(name="a", ttl_s=60, metadata={"k": 1})
        assert client.get_session(session.id) == session
        support = [(label, path) for label in ("anger", "surprise") for path in images[label][:2]]
        added = client.add_support(session.id, [*support, ("none", no_face())])
        assert [item.code for item in added.rejected] == ["no_face"]
        client.add_examples(session.id, "a%2Fb 笑", images["sadness"][:2], example_ids=["one", "t:wo"])
        assert client.get_class(session.id, "a%2Fb 笑").example_ids == ["one", "t:wo"]
        client.delete_example(session.id, "a%2Fb 笑", "t:wo")
        client.replace_class(session.id, "surprise", images["surprise"][2:])
        assert client.get_quality(session.id).labels == ["anger", "a%2Fb 笑", "surprise"]
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
        assert client.classify_by(support, [images["anger"][3]]).model.weights_sha256 == copy.weights_sha256
        assert client.get_model().weights_sha256 == copy.weights_sha256

    async def ask() -> list[str | None]:
        async with AsyncClient(service.url) as client:
            session = await client.create_session()
            await client.add_support(session.id, support)
            answers = await asyncio.gather(
                *(client.classify(session.id, [images[label][3]]) for label in ("anger", "surprise"))
            )
            await client.delete_session(session.id)
            return [answer.results[0].faces[0].predicted for answer in answers]

    assert asyncio.run(ask()) == ["anger", "surprise"]


def test_the_stream_answers_frames_and_refuses_what_is_too_large(service: Service) -> None:
    path = teach(service.client, SAMPLES, ("anger", "surprise"), range(3))
    with connect(service.url.replace("http", "ws") + f"{path}/stream") as socket:
        for index, expression in enumerate(("anger", "surprise")):
            socket.send(sample_bytes(expression, 5))
            answer = json.loads(socket.recv(30))
            assert answer["index"] == index
            assert answer["faces"][0]["predicted"] == expression
        with pytest.raises(ConnectionClosed) as raised:  # noqa: PT012
            socket.send(bytes(10 * 2**20 + 1))
            socket.recv(30)
        # A client that is still sending may meet the closed connection before it reads why.
        assert raised.value.rcvd is None or raised.value.rcvd.code == 1009


def csrn(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CSRN, *arguments], capture_output=True, text=True, env={**os.environ, **env})


QUERY = str(SAMPLES / "surprise" / "07.jpg")


def test_classify_prints_a_table_or_the_apis_result() -> None:
    table = csrn("classify", "--support", SAMPLES, QUERY)
    assert table.returncode == 0
    assert all(word in table.stdout for word in (*EXPRESSIONS, "score", "eyes", "prototype"))
    as_json = csrn("classify", "--support", SAMPLES, "--json", QUERY)
    (line,) = as_json.stdout.splitlines()
    result = json.loads(line)
    assert (result["index"], result["filename"]) == (0, QUERY)
    assert result["faces"][0]["scores"][0]["nearest_example_id"].endswith(".jpg")


def test_classify_answers_alike_by_a_service_and_leaves_no_session_there(service: Service) -> None:
    def sessions() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = service.client.get("/v1/sessions", params={"limit": 1000}).json()[
            "sessions"
        ]
        return listed

    before = sessions()
    arguments: list[str | Path] = ["classify", "--support", SAMPLES, "--json", QUERY]
    here, there = csrn(*arguments), csrn(*arguments, "--url", service.url)
    ours, theirs = (
        {score["label"]: score["score"] for score in json.loads(run.stdout)["faces"][0]["scores"]}
        for run in (here, there)
    )
    assert theirs == pytest.approx(ours, abs=1e-3)
    after = sessions()
    # Sessions of earlier tests may have expired meanwhile.
    assert after == [session for session in before if session in after or session["expires_at"] is None]


def test_classify_takes_folders_and_patterns_and_writes_csv(service: Service, tmp_path: Path) -> None:
    path = teach(service.client, SAMPLES, ("anger", "surprise"), range(3))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "plain.png").write_bytes(no_face())
    run = csrn(
        *("classify", "--url", service.url, "--session", path.rsplit("/", 1)[1], "--csv"),
        *(SAMPLES / "surprise", str(SAMPLES / "anger" / "0[5-7].jpg"), tmp_path),
    )
    assert run.returncode == 0
    rows = list(csv.DictReader(io.StringIO(run.stdout)))
    assert len(rows) == 8 + 3 + 2
    assert [row["error"] for row in rows[-2:]] == ["no_face", "image_unreadable"]
    assert rows[8]["filename"].endswith("anger/05.jpg")
    for row in rows[:-2]:
        best = max(("anger", "surprise"), key=lambda label: float(row[f"score {label}"]))
        assert row["predicted"] in ("", best)
    assert csrn("classify", "--url", service.url, "--support", SAMPLES, tmp_path / "text.jpg").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["classify", "--support", "/nowhere", "x.jpg"], 1),
        (["classify", "--support", str(SAMPLES), "/nowhere.jpg"], 1),
        (["classify", "x.jpg"], 2),
        (["classify", "--session", "s", "x.jpg"], 2),
        (["classify", "--support", str(SAMPLES), "--json", "--csv", "x.jpg"], 2),
        (["classify", "--support", str(SAMPLES), "--url", "http://127.0.0.1:9", QUERY], 1),
        (["classify", "--support", str(SAMPLES), "nothing*.jpg"], 1),
        (["convert", "/nowhere", "/nowhere", "/tmp/x"], 1),
        (["evaluate", "/nowhere"], 1),
        (["prepare", "cifar", "/nowhere", "/tmp/x"], 2),
        (["prepare", "fer2013", "/nowhere", "/tmp/x"], 1),
        (["nonsense"], 2),
        (["train", "/nowhere", "--out", "/tmp/x"], 1),
        (["train", "/nowhere", "--out", "/tmp/x", "--seed", "-1"], 2),
        (["train", "/nowhere", "--out", "/tmp/x", "--cosine-weight", "nan"], 2),
        (["evaluate", "/nowhere", "--way", "0"], 2),
    ],
)
def test_failures_are_one_line_and_bad_usage_is_2(arguments: list[str], code: int) -> None:
    failed = csrn(*arguments)
    assert failed.returncode == code
    assert "Traceback" not in failed.stderr
    if code == 1:
        (line,) = failed.stderr.splitlines()
        assert line.startswith("csrn: ")


@pytest.mark.parametrize(
    "env",
    [
        {"CSRN_STORE": "mysql://x"},
        {"CSRN_STORE": "sqlite:////proc/x/s"},
        {"CSRN_STORE": "postgresql://127.0.0.1:port/csrn"},
        {"CSRN_WEIGHTS": __file__},
    ],
)
def test_serve_with_unusable_settings_fails_with_one_line(env: dict[str, str]) -> None:
    failed = csrn("serve", "--port", "0", **env)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("csrn: ")
