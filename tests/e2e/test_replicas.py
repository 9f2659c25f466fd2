"""Two services on one PostgreSQL, as clients see them who send each request to any of the two."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import assert_problem, sample
from tests.support.postgresql import needs_postgresql
from tests.support.replicas import Cluster, kill_under_load, running_cluster
from tests.support.samples import EXPRESSIONS, SAMPLES

pytestmark = needs_postgresql


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_no_acknowledged_write_is_lost_when_a_replica_is_killed(cluster: Cluster) -> None:
    kill_under_load(cluster, 1)


def test_a_write_acknowledged_by_one_replica_is_seen_by_the_other_at_once(cluster: Cluster) -> None:
    clients, images = cluster.clients(), [SAMPLES / "anger" / "00.jpg"]
    session_id = clients[0].create_session().id
    for writer, reader in [clients, clients[::-1]] * 4:
        for label in ("calm", "angry"):
            writer.add_examples(session_id, label, images)
            (face,) = reader.classify(session_id, images).results[0].faces
            assert label in {score.label for score in face.scores}
        writer.delete_class(session_id, "angry")
        (face,) = reader.classify(session_id, images).results[0].faces
        assert [score.label for score in face.scores] == ["calm"]
        writer.delete_class(session_id, "calm")
        assert reader.get_session(session_id).classes == []


def test_writers_to_both_replicas_share_a_session(cluster: Cluster) -> None:
    clients = cluster.clients()
    session_id = clients[0].create_session().id

    def add(number: int) -> None:
        image = SAMPLES / EXPRESSIONS[number % 4] / f"{number % 8:02}.jpg"
        clients[number % 2].add_examples(session_id, f"c{number % 3}", [image], example_ids=[f"n{number}"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    session = clients[1].get_session(session_id)
    held = [clients[1].get_class(session_id, entry.label).example_ids for entry in session.classes]
    assert sorted(itertools.chain(*held)) == sorted(f"n{number}" for number in range(16))
    assert session.revision == 16


def test_the_service_answers_not_ready_while_postgresql_is_down_and_needs_no_restart(
    cluster: Cluster,
) -> None:
    client = cluster.replicas[1].client
    path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
    client.post(f"{path}/classes/a/examples", files=[sample("anger", 0)])
    before = client.get(path).json()
    cluster.postgresql.stop(signal.SIGKILL)
    assert client.get("/livez").status_code == 200
    for response in (
        client.get("/readyz"),
        client.get(path),
        client.post("/v1/sessions"),
        client.post(f"{path}/classes/a/examples", files=[sample("anger", 1)]),
        client.post(f"{path}/classify", files=[sample("anger", 1)]),
    ):
        assert_problem(response, 503, "not_ready")
        assert int(response.headers["retry-after"]) >= 1
    cluster.postgresql.start()
    assert client.get("/readyz").status_code == 200
    assert client.get(path).json() == before
    assert client.post(f"{path}/classify", files=[sample("anger", 1)]).status_code == 200
