"""Two services on one PostgreSQL, asked without affinity, and killed: what a user of a cluster sees."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.postgresql import needs_postgresql
from tests.support.replicas import Cluster, kill_under_load, part, running_cluster
from tests.support.samples import EXPRESSIONS

pytestmark = needs_postgresql


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_nothing_acknowledged_is_lost_and_no_answer_is_wrong_when_a_replica_is_killed(
    cluster: Cluster,
) -> None:
    kill_under_load(cluster, 1)


def test_writers_of_both_replicas_share_a_session(cluster: Cluster) -> None:
    first, second = (replica.client for replica in cluster.replicas)
    path = "/v1/sessions/" + first.post("/v1/sessions").json()["id"]

    def add(number: int) -> int:
        client = (first, second)[number % 2]
        return client.post(
            f"{path}/classes/c{number % 3}/examples",
            files=[part((EXPRESSIONS[number % 4], number % 8))],
            data={"example_ids": [f"n{number}"]},
        ).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(add, range(16))) == {201}
    held = [
        second.get(f"{path}/classes/{entry['label']}").json()["example_ids"]
        for entry in second.get(path).json()["classes"]
    ]
    assert sorted(name for ids in held for name in ids) == sorted(f"n{number}" for number in range(16))
    assert first.get(path).json()["revision"] == 16


def test_while_postgresql_is_away_the_service_says_so_and_needs_no_restart(cluster: Cluster) -> None:
    client = cluster.replicas[1].client
    path = "/v1/sessions/" + client.post("/v1/sessions").json()["id"]
    client.post(f"{path}/classes/a/examples", files=[part(("anger", 0))])
    before = client.get(path).json()
    cluster.postgresql.stop(signal.SIGKILL)
    assert client.get("/livez").status_code == 200
    for response in (
        client.get("/readyz"),
        client.get(path),
        client.post("/v1/sessions"),
        client.post(f"{path}/classes/a/examples", files=[part(("anger", 1))]),
        client.post(f"{path}/classify", files=[part(("anger", 1))]),
    ):
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert int(response.headers["retry-after"]) >= 1
    cluster.postgresql.start()
    assert client.get("/readyz").status_code == 200
    assert client.get(path).json() == before
    assert client.post(f"{path}/classify", files=[part(("anger", 1))]).status_code == 200
