"""The running service against its own /openapi.json: requests made from it, answers held against it."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
)
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.bench.service_process import ServiceProcess
from tests.support.samples import no_face, sample_bytes, two_faces

KEY = "secret-a"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "8"))
"""Requests made for each operation; make fuzz makes more"""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    ignored_auth,
    unsupported_method,
]
LIMITS = settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
IMAGES = (sample_bytes("anger", 0), sample_bytes("happiness", 1), two_faces(), no_face(), b"no image", b"")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """A service with keys, and what its requests may be about."""

    url: str
    archive: bytes
    session_id: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    environment = {
        "CSRN_STORE": f"sqlite:///{folder}/s.sqlite3",
        "CSRN_DEVICE": "cpu",
        "CSRN_API_KEYS": f"ann:{KEY}",
    }
    process = ServiceProcess(folder / "serve.log", environment)
    try:
        process.wait_until_ready()
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=process.url, headers=headers, timeout=30) as client:
            session_id = client.post("/v1/sessions", json={}).json()["id"]
            files = [("images", (f"{e}.jpg", sample_bytes(e, 0))) for e in ("anger", "happiness")]
            path = f"/v1/sessions/{session_id}"
            client.post(f"{path}/support", files=files, data={"labels": ["a", "b"]}).raise_for_status()
            archive = client.get(f"{path}/export").content
        yield Served(url=process.url, archive=archive, session_id=session_id)
    finally:
        process.stop()
    log = (folder / "serve.log").read_text()
    assert "Traceback" not in log, log[-4000:]


@pytest.fixture(scope="module")
def openapi(served: Served) -> Any:
    archives = st.sampled_from([served.archive, served.archive[:-1], b"", b"text"])
    schemathesis.openapi.media_type("application/octet-stream", archives)
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


def number_of(generated: Any) -> int:
    """A number that depends on what was generated alone, so that a run can be repeated."""
    return sum(repr(generated).encode())


def likelier(case: Any, served: Served) -> None:
    """Make a case that fits the description about a session that exists, with images that are some."""
    chosen = number_of([case.path_parameters, case.body])
    if "session_id" in case.path_parameters and case.operation.method != "delete" and chosen % 4:
        case.path_parameters["session_id"] = served.session_id
    if not isinstance(case.body, dict):
        return
    for field in case.body.keys() & {"images", "support"}:
        case.body[field] = [IMAGES[(chosen + i) % len(IMAGES)] for i in range(1 + chosen % 3)]
    if case.body.get("labels") and chosen % 3:
        count = len(case.body.get("support") or case.body["images"])
        case.body["labels"] = (case.body["labels"] * count)[:count]
    if "file" in case.body:
        case.body["file"] = served.archive


@pytest.mark.parametrize("fitting", [True, False], ids=["fitting", "wrong"])
def test_answers_are_as_documented(openapi: Any, served: Served, fitting: bool) -> None:
    mode = schemathesis.GenerationMode.POSITIVE if fitting else schemathesis.GenerationMode.NEGATIVE
    headers = {"Authorization": f"Bearer {KEY}"}
    asked: collections.Counter[int] = collections.Counter()

    def answered(case: Any) -> None:
        if fitting:
            likelier(case, served)
        response = case.call(headers=headers)
        asked[response.status_code] += 1
        # Query parameters and headers that nobody documented are ignored; what is in a body is not.
        body = case.meta.components.get(ParameterLocation.BODY)
        wrong_body = body is not None and body.mode is schemathesis.GenerationMode.NEGATIVE
        checks = [*CHECKS, negative_data_rejection] if wrong_body else CHECKS
        case.validate_response(response, checks=checks, headers=headers)

    for operation in openapi.get_all_operations():
        cases = operation.ok().as_strategy(generation_mode=mode)
        with contextlib.suppress(Unsatisfiable):  # Not every operation can be asked in a wrong way.
            LIMITS(given(case=cases)(answered))()
    print(dict(asked))
    # More than the ways to be refused, or than one of them, were seen.
    assert {200, 201, 404, 422} <= asked.keys() if fitting else {401, 404, 422} <= asked.keys()
