from __future__ import annotations

import contextlib

import pytest

from app.access.concurrency import ConcurrencyLimit
from app.access.errors import Overloaded


def test_a_key_and_all_keys_together_have_a_limit() -> None:
    limit = ConcurrencyLimit("streams", most=3, most_per_key=2)
    with contextlib.ExitStack() as used:
        used.enter_context(limit.one_of("ann"))
        used.enter_context(limit.one_of("ann"))
        with pytest.raises(Overloaded, match="a key may have 2 streams"), limit.one_of("ann"):
            pass
        used.enter_context(limit.one_of("bob"))
        with pytest.raises(Overloaded, match="the service handles 3 streams"), limit.one_of("zoe"):
            pass
        assert limit.count == 3
    assert limit.count == 0


def test_a_place_is_free_again_after_an_error() -> None:
    limit = ConcurrencyLimit("requests", most=1, most_per_key=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), limit.one_of("ann"):
            raise ZeroDivisionError
    assert limit.count == 0
