from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.api import readiness
from app.api.errors import NotReady
from app.api.readiness import Readiness
from app.sessions.errors import StoreFull, StoreUnavailable
from tests.support.api import client_of, state_of

pytestmark = pytest.mark.anyio


class Store:
    """A store whose check raises the fault that is set, or never returns."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.hangs = False

    async def check(self) -> None:
        if self.hangs:
            await asyncio.sleep(1e6)
        if self.fault is not None:
            raise self.fault


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(readiness, "monotonic", lambda: self.now_s)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_only_a_long_outage_of_the_store_makes_the_service_unready(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ready = Readiness(store, outage_s=10)
    assert await ready.check() == "ready"
    for _ in range(2):  # The time counts from the beginning of each outage.
        store.fault = StoreUnavailable("gone")
        assert await ready.check() == "store_unavailable"
        clock.now_s += 9.9
        assert await ready.check() == "store_unavailable"
        clock.now_s += 0.1
        with pytest.raises(NotReady):
            await ready.check()
        store.fault = None
        assert await ready.check() == "ready"
    assert caplog.messages == ["session store: gone"] * 2


async def test_a_service_that_never_reached_its_store_is_not_ready(store: Store, clock: Clock) -> None:
    ready = Readiness(store, outage_s=10)
    store.fault = StoreUnavailable("gone")
    with pytest.raises(NotReady):
        await ready.check()


async def test_a_full_store_is_told_at_once_and_is_no_outage(store: Store, clock: Clock) -> None:
    ready = Readiness(store, outage_s=10)
    store.fault = StoreFull("full")
    for _ in range(2):
        with pytest.raises(StoreFull):
            await ready.check()
        clock.now_s += 20
    store.fault = StoreUnavailable("gone")
    assert await ready.check() == "store_unavailable"


async def test_a_store_that_hangs_does_not_delay_the_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "STORE_LIMIT_S", 0.05)
    ready = Readiness(store, outage_s=10)
    assert await ready.check() == "ready"
    store.hangs = True
    assert await ready.check() == "store_unavailable"


def test_readyz_names_a_short_outage_and_the_metric_shows_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(weights, tmp_path) as client:
        assert client.get("/readyz").json() == {"status": "ready"}

        async def fail() -> None:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(state_of(client).store, "check", fail)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "store_unavailable"})
        assert "csrn_ready 0.0" in client.get("/metrics").text
