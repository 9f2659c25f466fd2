from __future__ import annotations

from typing import Any

import pytest

from csrn_client import Client, ClientError, InvalidImage, InvalidURL
from csrn_client.messages import Examples, labelled, session_path


@pytest.mark.parametrize("url", ["http://host:port", "host:8000", "host", "ftp://host", "http://", ""])
def test_an_address_that_is_not_http_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidURL) as raised:
        Client(url)
    assert isinstance(raised.value, ClientError)


def test_a_label_of_any_script_becomes_one_part_of_the_path() -> None:
    assert session_path("s", "classes", "a/b 笑") == "/v1/sessions/s/classes/a%2Fb%20%E7%AC%91"


@pytest.mark.parametrize(
    ("given", "labels", "images"),
    [
        ([("a", b"1"), ("b", b"2")], ["a", "b"], [b"1", b"2"]),
        ((("a", b"1"), ("b", b"2")), ["a", "b"], [b"1", b"2"]),
        (("a", b"1"), ["a"], [b"1"]),
        ({"a": [b"1", b"2"], "b": b"3"}, ["a", "a", "b"], [b"1", b"2", b"3"]),
        ((pair for pair in [("a", b"1")]), ["a"], [b"1"]),
    ],
)
def test_labelled_images_are_pairs_or_the_images_of_each_label(
    given: Examples, labels: list[str], images: list[bytes]
) -> None:
    assert labelled(given) == (labels, images)


@pytest.mark.parametrize("given", [["a.jpg", "b.jpg"], ["ab"], "ab", [b"1"]])
def test_images_without_labels_are_refused(given: Any) -> None:
    with pytest.raises(InvalidImage, match=r"pairs: \(label, image\)"):
        labelled(given)
