from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from app.access.origins import is_foreign_page, is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("::1", True),
        ("[::1]:80", True),
        ("127.3.2.1:80", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("localhost.example", False),
        ("127.0.0.1.example:80", False),
        ("", False),
        ("[", False),
    ],
)
def test_names_of_this_machine_are_recognized(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_an_allowed_origin_is_not_foreign() -> None:
    page = Headers({"origin": "https://b", "host": "a", "sec-fetch-site": "cross-site"})
    assert is_foreign_page(page, ["https://c"])
    assert not is_foreign_page(page, ["https://c", "https://b"])
    assert not is_foreign_page(page, ["*"])
    without_origin = Headers({"host": "a", "sec-fetch-site": "cross-site"})
    assert is_foreign_page(without_origin, ["https://b"])


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"origin": "http://a:80", "host": "a:80"}, False),
        ({"origin": "http://b", "host": "a"}, True),
        ({"origin": "null", "host": "a"}, True),
        ({"sec-fetch-site": "none", "host": "a"}, False),
        ({"sec-fetch-site": "same-site", "host": "a"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://b", "host": "a"}, False),
    ],
)
def test_browsers_name_the_origin_of_a_page(headers: dict[str, str], foreign: bool) -> None:
    assert is_foreign_page(Headers(headers)) is foreign
