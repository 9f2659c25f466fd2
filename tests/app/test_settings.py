from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.settings import Settings, usable_cores

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("100000 100000", 1),
        ("20000 100000", 1),
        (f"{ALL * 100000 - 50000} 100000", ALL),
        (f"{ALL * 200000} 100000", ALL),
        ("max 100000", ALL),
        ("", ALL),
        (None, ALL),
    ],
)
def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, cpu_max: str | None, cores: int) -> None:
    if cpu_max is not None:
        (tmp_path / "cpu.max").write_text(cpu_max)
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_a_setting_can_come_from_a_secret_file(tmp_path: Path) -> None:
    (tmp_path / "csrn_api_keys").write_text("ann:one\nbob:two\n")
    assert Settings(_secrets_dir=tmp_path).api_keys.get_secret_value() == "ann:one\nbob:two"


@pytest.mark.parametrize("rate", ["often", "0/minute", "10/minute;5/second"])
def test_a_rate_that_cannot_be_kept_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Settings(rate_limit=rate)


@pytest.mark.parametrize("store", ["mysql://x", "sqlite://relative", "sqlite:///", "postgresql://"])
def test_an_unknown_store_is_refused(store: str) -> None:
    with pytest.raises(ValueError, match="expected sqlite:///PATH"):
        Settings(store=store)


def test_origins_are_read_as_browsers_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CSRN_ALLOWED_ORIGINS", " https://App.example:443,http://[::1]:8000,\ncapacitor://localhost "
    )
    assert Settings().allowed_origins == ("https://app.example", "http://[::1]:8000", "capacitor://localhost")
    assert Settings(allowed_origins="").allowed_origins == ()
    assert Settings(allowed_origins="*").allowed_origins == ("*",)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example/",
        "https://app.example/page",
        "app.example",
        "//app.example",
        "null",
        "https://",
        "https://*.example",
        "https://user@app.example",
        "https://app.example:port",
        "https://one.example https://two.example",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="expected scheme, host and perhaps port"):
        Settings(allowed_origins=f"https://good.example,{origin}")
