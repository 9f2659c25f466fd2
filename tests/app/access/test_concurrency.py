from __future__ import annotations

import contextlib

import pytest

from app.access.concurrency import ConcurrencyLimit
from app.access.errors import Overloaded


def test_a_key_and_all_keys_together_have_a_limit() -> None:
    limit = ConcurrencyLimit("streams", most=3, most_per_key=2)
    with contextlib.ExitStack() as used:
        used.enter_context(limit.hold("ann"))
        used.enter_context(limit.hold("ann"))
        with pytest.raises(Overloaded, match="a key may have 2 streams"), limit.hold("ann"):
            pass
        used.enter_context(limit.hold("bob"))
        with pytest.raises(Overloaded, match="the service handles 3 streams"), limit.hold("zoe"):
            pass
        assert limit.count == 3
    assert limit.count == 0


def test_an_amount_that_does_not_fit_is_refused() -> None:
    limit = ConcurrencyLimit("body bytes", most=100, most_per_key=60)
    with limit.hold("ann", 50), limit.hold("bob", 50):
        for owner in ("ann", "zoe"):
            with pytest.raises(Overloaded), limit.hold(owner, 11):
                pass
    with limit.hold("ann", 60):
        assert limit.count == 60


def test_a_place_is_free_again_after_an_error() -> None:
    limit = ConcurrencyLimit("requests", most=1, most_per_key=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), limit.hold("ann"):
            raise ZeroDivisionError
    assert limit.count == 0
