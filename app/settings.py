"""Settings from CSRN_* environment variables, read once when the service starts."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import limits
import platformdirs
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "csrn-fer2013.safetensors"
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""The processor quota of a container (cgroup version 2)"""
SECRETS = Path("/run/secrets")
"""Where Docker and Kubernetes mount secrets"""
OWN_PATHS = {"v1", "livez", "readyz", "metrics", "openapi.json", "docs", "page", "samples"}
"""The first parts of the paths that the service has"""
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def usable_cores(cpu_max: Path = CPU_MAX) -> int:
    """Number of cores that the process may use: fewer in a container whose quota is lower (rounded up)."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        return min(cores, max(math.ceil(int(quota) / int(period)), 1))
    except (OSError, ValueError):  # there is no such file, or it says "max": no quota
        return cores


def default_store() -> str:
    """A SQLite file in the user's data folder."""
    return f"sqlite:///{Path(platformdirs.user_data_dir('csrn', appauthor=False)) / 'sessions.sqlite3'}"


def _origin(entry: str) -> str:
    """An origin as browsers write it: in lower case, without the default port. Raises: ValueError."""
    if entry == "*":
        return entry
    match = _ORIGIN.fullmatch(entry.lower())
    if match is None:
        raise ValueError(
            f"{entry} is no origin: expected scheme, host and perhaps port, such as "
            "https://app.example:8443, without a path and without a slash at the end"
        )
    scheme, host, port = match.groups(default="")
    return f"{scheme}://{host}" + ("" if port == DEFAULT_PORTS.get(scheme) else port)


class Settings(BaseSettings):
    """Each field is read from the variable CSRN_<FIELD>, else from the file csrn_<field> in /run/secrets."""

    model_config = SettingsConfigDict(env_prefix="CSRN_", secrets_dir=SECRETS if SECRETS.is_dir() else None)

    store: str = Field(default_factory=default_store)
    """sqlite:///PATH, or postgresql://USER:PASSWORD@HOST:PORT/DB for several replicas"""
    weights: Path = SHIPPED_WEIGHTS
    """The checkpoint, a safetensors file"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the encoder; auto means bfloat16 on devices that support it"""
    device_memory_share: float = Field(1.0, gt=0, le=1)
    """The largest share of a GPU's memory that this process takes. Replicas on one GPU need less than 1"""
    api_keys: SecretStr = SecretStr("")
    """NAME:KEY or NAME:sha256:HEX, separated by commas or line ends; empty: no key is needed"""
    allow_anonymous: bool = False
    """Whether a service without keys answers other machines, and through a proxy"""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose web pages may use the service, such as https://app.example:8443, separated by commas or
    line ends; * allows every page, and needs keys or CSRN_ALLOW_ANONYMOUS=true"""
    root_path: str = ""
    """The path of the service on its proxy, such as /faces. The proxy may keep it in requests or remove it"""
    rate_limit: str = ""
    """The rate of each key, for example 6000/minute; empty: no limit. Each request, each image in it and each
    frame of a stream counts one. A request that costs more than the whole rate gets 413. Every replica counts
    separately"""

    log_format: Literal["auto", "json", "text"] = "auto"
    """Format of the log on stderr; auto: text on a terminal, else one JSON object on each line"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    face_threads: int = Field(default_factory=usable_cores, ge=1)
    """Threads that decode images and find faces"""
    network_threads: int = Field(default_factory=lambda: max(usable_cores() * 3 // 8, 1), ge=1)
    """Threads of the network on a CPU. The network takes a third of the time of a query"""
    max_images: int = Field(64, ge=1)
    """The most images of one request"""
    max_image_bytes: int = Field(10 * 2**20, ge=1)
    """The largest image"""
    max_body_bytes: int = Field(64 * 2**20, ge=1)
    """The largest body of one request"""
    max_body_bytes_in_progress: int = Field(2**30, ge=1)
    """The bodies of all requests in progress, together. The requests of one key may hold a quarter"""
    max_requests: int = Field(512, ge=1)
    """Requests in progress at once. More are refused with 429"""
    max_requests_per_key: int = Field(128, ge=1)
    """Requests of one key in progress at once. More are refused with 429, and other keys are still served"""
    max_pixels: int = Field(25_000_000, ge=1)
    """The most pixels of an image. A JPEG may have 8 times as many, because it is decoded at reduced size"""
    decode_memory_bytes: int = Field(2**30, ge=1)
    """Memory for decoding images and searching their faces, in all threads together. Large images wait for
    room, and small ones pass them. An image that needs more is read while no other large one is"""
    max_queued_images: int = Field(512, ge=1)
    """Images that wait for a thread. More are refused with 429"""
    max_batch_faces: int | None = Field(None, ge=1)
    """The most faces that the network encodes at once; default: 64 on a CPU, 256 on a GPU"""
    max_sessions: int = Field(10_000, ge=1)
    """Sessions of one key"""
    max_bytes_per_key: int = Field(2**30, ge=1)
    """Stored bytes of one key: features and metadata of all its sessions"""
    max_streams: int = Field(32, ge=0)
    """Open streams. Each has a FaceMesh of its own"""
    max_streams_per_key: int = Field(16, ge=0)
    """Open streams of one key"""
    stream_idle_s: float = Field(60, gt=0)
    """A stream is closed after this time without a frame"""
    max_classes: int = Field(64, ge=1)
    """Classes of one session"""
    max_examples: int = Field(512, ge=1)
    """Examples of one session"""
    support_cache_bytes: int | None = Field(None, ge=0)
    """Device memory for cached support sets; default: a quarter of this process's share of a GPU's memory,
    or 1 GiB on a CPU"""
    upkeep_every_s: float = Field(60, gt=0)
    """Time between deletions of expired sessions"""
    stall_s: float = Field(60, gt=0)
    """The process ends with exit code 70 when a worker thread is busy with one batch for this time"""
    store_outage_s: float = Field(10, ge=0)
    """How long the store may be unavailable until /readyz answers 503"""
    drain_s: float = Field(0, ge=0)
    """How long the service keeps serving after SIGTERM while /readyz answers 503, so that a proxy notices"""
    grace_s: int = Field(30, ge=1)
    """How long requests may continue after the listener has closed. Then they are cancelled"""

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _as_browsers_write_them(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(map(_origin, filter(None, map(str.strip, re.split(r"[,\r\n]", value)))))

    @field_validator("root_path")
    @classmethod
    def _known_path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and (not _PATH.fullmatch(path) or path.split("/")[1] in OWN_PATHS):
            raise ValueError(
                "expected a path such as /faces that begins with none of the service's own paths"
            )
        return path

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
