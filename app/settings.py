"""Settings from CSRN_* environment variables, read once when the service starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "csrn-fer2013.safetensors"


def default_store() -> str:
    """SQLite in the user's data folder."""
    return f"sqlite:///{Path(platformdirs.user_data_dir('csrn', appauthor=False)) / 'sessions.sqlite3'}"


class Settings(BaseSettings):
    """Each field is the environment variable CSRN_<FIELD>, in capitals."""

    model_config = SettingsConfigDict(env_prefix="CSRN_", extra="ignore")

    store: str = Field(default_factory=default_store)
    """sqlite:///PATH"""
    weights: Path = SHIPPED_WEIGHTS
    device: Literal["auto", "cpu", "cuda"] = "auto"
    api_keys: SecretStr = SecretStr("")
    """Comma-separated NAME:KEY; empty: no key is asked for"""

    face_threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    max_images: int = Field(64, ge=1)
    """Image parts of one request"""
    max_image_bytes: int = Field(10 * 2**20, ge=1)
    max_body_bytes: int = Field(64 * 2**20, ge=1)
    max_pixels: int = Field(50_000_000, ge=1)
    max_queued_images: int = Field(512, ge=1)
    max_batch_faces: int = Field(64, ge=1)
    max_classes: int = Field(64, ge=1)
    """Of one session"""
    max_examples: int = Field(512, ge=1)
    """Of one session"""
    support_cache_bytes: int = Field(2**30, ge=0)

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if not value.removeprefix("sqlite:///") or not value.startswith("sqlite:///"):
            raise ValueError("expected sqlite:///PATH")
        return value
