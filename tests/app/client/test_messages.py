from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from csrn_client import AsyncClient, Client, ClientError, InvalidImage, InvalidURL, InvalidValue
from csrn_client.messages import Examples, labelled, session_path


@pytest.mark.parametrize("url", ["http://host:port", "host:8000", "host", "ftp://host", "http://", ""])
def test_an_address_that_is_not_http_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidURL) as raised:
        Client(url)
    assert isinstance(raised.value, ClientError)


def test_a_label_of_any_script_becomes_one_part_of_the_path() -> None:
    assert session_path("s", "classes", "a?b 笑") == "/v1/sessions/s/classes/a%3Fb%20%E7%AC%91"


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "../s", "\udcff"])
def test_a_name_that_would_change_the_path_is_refused_before_anything_is_sent(part: str) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.method} {request.url} was sent")

    client = Client(transport=httpx.MockTransport(refuse))
    calls: list[Callable[[], object]] = [
        lambda: client.delete_session(part),
        lambda: client.delete_class("s", part),
        lambda: client.delete_example("s", "a", part),
        lambda: client.get_class("s", part),
        lambda: client.replace_class("s", part, b"image"),
        lambda: client.stream(part, b"image"),
        lambda: asyncio.run(AsyncClient(transport=httpx.MockTransport(refuse)).delete_class("s", part)),
    ]
    for call in calls:
        with pytest.raises(InvalidValue, match="cannot be part of an address") as raised:
            call()
        assert isinstance(raised.value, ClientError)
        assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.create_session(ttl_s=math.inf),
        lambda client: client.create_session(metadata={"a": math.nan}),
        lambda client: client.create_session(metadata={"a": object()}),
        lambda client: client.create_session(name="\udcff"),
        lambda client: client.update_session("s", ttl_s=math.nan),
        lambda client: client.add_support("s", [("\udcff", b"image")]),
        lambda client: client.get_class("s", "a" * 10**5),
    ],
)
def test_a_value_that_cannot_be_sent_is_an_error_of_the_client(call: Callable[[Client], object]) -> None:
    with pytest.raises(InvalidValue, match="a value cannot be sent: "):
        call(Client(transport=httpx.MockTransport(lambda _: httpx.Response(500))))


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
