from __future__ import annotations

import hashlib

import pytest

from app.access.api_keys import LOCAL_OWNER, ApiKeys, new_key
from app.access.errors import KeysInvalid


def test_without_keys_everyone_is_the_local_owner() -> None:
    keys = ApiKeys(" \n , ")
    assert not keys.required
    assert keys.owner(None) == keys.owner("anything") == LOCAL_OWNER


def test_a_key_is_known_by_itself_or_by_its_hash() -> None:
    hashed = hashlib.sha256(b"beta").hexdigest()
    keys = ApiKeys(f"ann:al:pha, bob:sha256:{hashed}\ncarol:gamma")
    assert [keys.owner(key) for key in ("al:pha", "beta", "gamma")] == ["ann", "bob", "carol"]
    assert [keys.owner(key) for key in (None, "", "ann", "al:ph", hashed, "BETA")] == [None] * 6


def test_keys_of_one_name_own_the_same_sessions_so_that_a_key_can_be_changed() -> None:
    keys = ApiKeys("ann:old-key,ann:new-key,bob:another")
    assert keys.owner("old-key") == keys.owner("new-key") == "ann"
    assert ApiKeys("ann:new-key").owner("old-key") is None


def test_a_key_without_a_name_has_one_of_its_own() -> None:
    keys = ApiKeys("first-key,second-key")
    assert keys.owner("first-key") not in (None, keys.owner("second-key"))
    assert keys.owner("first-key") == ApiKeys("first-key").owner("first-key")


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        ("ann:s3cret,bob:", "entry 2 has no key"),
        ("sha256:" + "s3cret" * 10, "entry 1 has a hash and no name"),
        ("ann:sha256:s3cret", "entry 1 needs 64 hexadecimal digits"),
        ("ann:sha256:" + "zz" * 32, "entry 1 needs 64 hexadecimal digits"),
        ("a b:s3cret", "name of entry 1"),
        (":s3cret", "name of entry 1"),
        ("ann:s3cret,bob:s3cret", "entry 2 has the key of another name"),
    ],
)
def test_keys_that_cannot_be_read_are_refused_without_telling_them(configured: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=said) as raised:
        ApiKeys(configured)
    assert "s3cret" not in str(raised.value)


def test_a_new_key_is_known_by_its_entry_which_does_not_hold_it() -> None:
    key, entry = new_key("ann")
    assert key not in entry
    assert ApiKeys(entry).owner(key) == "ann"
    assert new_key("ann")[0] != key
    with pytest.raises(KeysInvalid):
        new_key("a:b")


def test_keys_that_can_be_guessed_are_named() -> None:
    assert ApiKeys("ann:short,bob:a-key-that-is-long-enough").short == ["ann"]
