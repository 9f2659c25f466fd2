from __future__ import annotations

from pathlib import Path

import pytest

from csrn_client import Client, ClientError, InvalidURL
from csrn_client.messages import file_parts, session_path


@pytest.mark.parametrize("url", ["http://host:port", "host:8000", "host", "ftp://host", "http://", ""])
def test_an_address_that_is_not_http_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidURL) as raised:
        Client(url)
    assert isinstance(raised.value, ClientError)


def test_a_label_of_any_script_becomes_one_part_of_the_path() -> None:
    assert session_path("s", "classes", "a/b 笑") == "/v1/sessions/s/classes/a%2Fb%20%E7%AC%91"


def test_images_are_named_after_their_files_or_numbered(tmp_path: Path) -> None:
    file = tmp_path / "face.jpg"
    file.write_bytes(b"two")
    assert file_parts("images", [b"one", file]) == [
        ("images", ("0", b"one")),
        ("images", ("face.jpg", b"two")),
    ]
