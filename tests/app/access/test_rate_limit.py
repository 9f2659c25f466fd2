from __future__ import annotations

import time

import pytest

from app.access.errors import CostTooHigh, RateLimited
from app.access.rate_limit import RateLimit


def test_each_owner_has_the_whole_rate() -> None:
    rate = RateLimit("3/hour")
    rate.charge("ann", 2)
    rate.charge("ann", 1)
    with pytest.raises(RateLimited, match="try again in") as raised:
        rate.charge("ann", 1)
    assert 1 <= raised.value.retry_after_s <= 3600
    rate.charge("bob", 3)


def test_a_refused_cost_is_not_counted() -> None:
    rate = RateLimit("3/minute")
    rate.charge("ann", 2)
    with pytest.raises(RateLimited):
        rate.charge("ann", 2)
    rate.charge("ann", 1)


def test_a_request_that_the_whole_rate_does_not_allow_is_too_large() -> None:
    rate = RateLimit("3/minute")
    rate.charge("ann", 1)
    with pytest.raises(CostTooHigh, match="at most 2 images in one request"):
        rate.charge_images("ann", 3)
    rate.charge_images("ann", 2)
    with pytest.raises(RateLimited, match="try again in"):
        rate.charge_images("ann", 2)


def test_without_a_rate_nothing_is_refused() -> None:
    RateLimit("").charge("ann", 10**9)


@pytest.mark.parametrize("already_counted", [0, 1, 5, 10])
@pytest.mark.parametrize("images", [1, 2, 5, 8, 9])
def test_a_client_that_waits_as_told_is_served_at_the_second_try(
    monkeypatch: pytest.MonkeyPatch, already_counted: int, images: int
) -> None:
    now_s = 1_000_000_003.7
    monkeypatch.setattr(time, "time", lambda: now_s)
    rate = RateLimit("10/minute")
    for _ in range(already_counted):
        rate.charge("ann", 1)
        now_s += 0.9

    def send() -> None:
        rate.charge("ann", 1)
        rate.charge_images("ann", images)

    try:
        send()
    except RateLimited as error:
        now_s += error.retry_after_s
        send()
