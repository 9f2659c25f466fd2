from __future__ import annotations

import hashlib

import pytest

from app.access.api_keys import LOCAL_OWNER, ApiKeys, new_key
from app.access.errors import KeysInvalid
from tests.support.command_line import csrn_succeeds


def test_without_keys_every_request_has_the_local_owner() -> None:
    keys = ApiKeys(" \n , ")
    assert not keys.required
    assert keys.owner(None) == keys.owner("anything") == LOCAL_OWNER


def test_a_key_or_its_hash_can_be_configured() -> None:
    hashed = hashlib.sha256(b"beta").hexdigest()
    keys = ApiKeys(f"ann:al:pha, bob:sha256:{hashed}\ncarol:gamma")
    assert [keys.owner(key) for key in ("al:pha", "beta", "gamma")] == ["ann", "bob", "carol"]
    assert [keys.owner(key) for key in (None, "", "ann", "al:ph", hashed, "BETA")] == [None] * 6


@pytest.mark.parametrize("entry", ["ann:SHA256:{}", "ann:Sha256:{}", "ann: sha256:{}", "ann:sha256: {}"])
def test_a_hash_is_never_taken_for_a_key(entry: str) -> None:
    hashed = hashlib.sha256(b"alpha").hexdigest()
    for digits in (hashed, hashed.upper()):
        keys = ApiKeys(entry.format(digits))
        assert keys.owner("alpha") == "ann"
        assert keys.owner(entry.format(digits).partition(":")[2].strip()) is None


def test_two_keys_of_one_name_have_the_same_owner() -> None:
    keys = ApiKeys("ann:old-key,ann:new-key,bob:another")
    assert keys.owner("old-key") == keys.owner("new-key") == "ann"
    assert ApiKeys("ann:new-key").owner("old-key") is None


def test_a_key_without_a_name_gets_a_name_of_its_own() -> None:
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
        ("ann:SHA256:s3cret", "entry 1 needs 64 hexadecimal digits"),
        ("ann:sha256=" + "ab" * 32, "entry 1 is no hash of the form NAME:sha256:HEX"),
        ("ann:SHA-256:" + "ab" * 32, "entry 1 is no hash of the form NAME:sha256:HEX"),
        ("ann:sha512:" + "ab" * 64, "entry 1 is no hash of the form NAME:sha256:HEX"),
        ("SHA256:" + "s3cret" * 10, "entry 1 has a hash and no name"),
        ("a b:s3cret", "entry 1 has no valid name"),
        (":s3cret", "entry 1 has no valid name"),
        ("ann:s3cret,bob:s3cret", "entry 2 has the key of another name"),
    ],
)
def test_a_malformed_entry_is_refused_without_stating_the_key(configured: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=said) as raised:
        ApiKeys(configured)
    assert "s3cret" not in str(raised.value)


def test_csrn_key_makes_different_keys_of_one_owner_and_entries_without_them() -> None:
    printed = [csrn_succeeds("key ann").split() for _ in range(2)]
    keys, entries = {words[5] for words in printed}, ",".join(words[-1] for words in printed)
    assert len(keys) == 2
    assert {ApiKeys(entries).owner(key) for key in keys} == {"ann"}
    assert not [key for key in keys if key in entries]
    with pytest.raises(KeysInvalid):
        new_key("a:b")


def test_the_names_of_short_keys_are_known() -> None:
    assert ApiKeys("ann:short,bob:a-key-that-is-long-enough").short == ["ann"]
