from __future__ import annotations

import pytest

from csrn_client.field_rules import normalized_label


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("joy", "joy"),
        ("  so-so ", "so-so"),
        ("e\u0301", "\u00e9"),
        ("笑", "笑"),
        ("غضب", "غضب"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("a b %2F", "a b %2F"),
        ("x" * 64, "x" * 64),
    ],
)
def test_a_label_of_any_script_is_kept_in_one_form(given: str, kept: str) -> None:
    assert normalized_label(given) == kept
    assert normalized_label(kept) == kept


@pytest.mark.parametrize("given", ["", " ", "x" * 65, "a\x00", "a\n", "\x1fa", "\ud800", ".", "..", " .. "])
def test_what_is_no_label_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="a label"):
        normalized_label(given)
