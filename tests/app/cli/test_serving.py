from __future__ import annotations

import pytest

from tests.support.command_line import csrn


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CSRN_ALLOWED_ORIGINS", "*", "csrn: CSRN_ALLOWED_ORIGINS=* would let every web page"),
        (
            "CSRN_ALLOWED_ORIGINS",
            "https://a/",
            "csrn: CSRN_ALLOWED_ORIGINS: https://a/ is no origin: expected",
        ),
    ],
)
def test_a_service_with_an_unsafe_setting_does_not_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    ended = csrn("serve --port 0")
    assert (ended.code, ended.stderr.startswith(said)) == (1, True), ended.stderr
