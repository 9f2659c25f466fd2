"""Settings from CSRN_* environment variables, read once when the service starts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import limits
import platformdirs
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.inference.cores import usable_cores

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "csrn-fer2013.safetensors"
SECRETS = Path("/run/secrets")
"""Where Docker and Kubernetes put files; a setting that is not in the environment may be one: csrn_<field>"""


def default_store() -> str:
    """SQLite in the user's data folder."""
    return f"sqlite:///{Path(platformdirs.user_data_dir('csrn', appauthor=False)) / 'sessions.sqlite3'}"


class Settings(BaseSettings):
    """Each field is the environment variable CSRN_<FIELD>, in capitals, or a file csrn_<field> of SECRETS."""

    model_config = SettingsConfigDict(
        env_prefix="CSRN_",
        extra="ignore",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )

    store: str = Field(default_factory=default_store)
    """sqlite:///PATH, or postgresql://USER:PASSWORD@HOST:PORT/DB for several replicas"""
    weights: Path = SHIPPED_WEIGHTS
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoder; auto takes bfloat16 where the device computes in it"""
    api_keys: SecretStr = SecretStr("")
    """NAME:KEY or NAME:sha256:HEX, divided by commas or line ends; empty: no key is asked for"""
    allow_anonymous: bool = False
    """Whether to serve others than this machine without keys"""
    rate_limit: str = ""
    """Of one key, as in 6000/minute: a request counts one, each of its images and each streamed frame one
    more; empty: none. Each replica counts for itself."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """Of the lines on stderr; auto: text on a terminal, elsewhere a JSON object each"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    face_threads: int = Field(default_factory=usable_cores, ge=1)
    """Threads that decode images and find faces"""
    network_threads: int = Field(default_factory=lambda: max(usable_cores() * 3 // 8, 1), ge=1)
    """Of the network where it runs on the processor: a query costs it about a third, faces the rest"""
    max_images: int = Field(64, ge=1)
    """Image parts of one request"""
    max_image_bytes: int = Field(10 * 2**20, ge=1)
    max_body_bytes: int = Field(64 * 2**20, ge=1)
    """Of one request"""
    max_pixels: int = Field(25_000_000, ge=1)
    """That a decoder may hold at once; a JPEG that is decoded reduced may have 8 times as many"""
    max_queued_images: int = Field(512, ge=1)
    max_batch_faces: int = Field(64, ge=1)
    max_sessions: int = Field(10_000, ge=1)
    """Of one API key"""
    max_bytes_per_key: int = Field(2**30, ge=1)
    """Features and metadata of all sessions of one API key"""
    max_streams: int = Field(32, ge=0)
    """At once; each has a FaceMesh of its own"""
    max_streams_per_key: int = Field(16, ge=0)
    stream_idle_s: float = Field(60, gt=0)
    """A stream that sends no frame for so long is closed"""
    max_classes: int = Field(64, ge=1)
    """Of one session"""
    max_examples: int = Field(512, ge=1)
    """Of one session"""
    support_cache_bytes: int | None = Field(None, ge=0)
    """Of the device's memory, for support sets kept ready; by default a quarter of a GPU's, else 1 GiB"""
    upkeep_every_s: float = Field(60, gt=0)
    """How often what has expired is deleted"""
    stall_s: float = Field(60, gt=0)
    """A worker thread that is busy with one batch for so long is given up, and another takes its place"""
    drain_s: float = Field(0, ge=0)
    """How long the service keeps serving after SIGTERM while /readyz answers 503, so that a proxy notices"""
    grace_s: int = Field(30, ge=1)
    """How long requests may then go on after the listener has closed, before they are cancelled"""

    @field_validator("rate_limit")
    @classmethod
    def _known_rate(cls, value: str) -> str:
        if value:
            try:
                (rate,) = limits.parse_many(value)
            except ValueError:
                raise ValueError("expected one rate, such as 600/minute") from None
            if rate.amount < 1:
                raise ValueError("expected a rate of at least 1")
        return value

    @field_validator("log_format", "log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        kind, _, place = value.partition("://")
        if not place.strip("/") or kind not in ("sqlite", "postgresql"):
            raise ValueError("expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DB")
        if kind == "sqlite" and not place.startswith("/"):
            raise ValueError("expected sqlite:///PATH, with three slashes")
        return value
