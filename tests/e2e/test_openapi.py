"""The running service against its own /openapi.json: schemathesis makes requests and checks the responses."""

from __future__ import annotations

import base64
import collections
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.support.api import bearer, teach
from tests.support.samples import EXPRESSIONS, no_face, sample_bytes, two_faces
from tests.support.service import Service

HEADERS = bearer("secret-a")
LIMITS = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "8")),  # For each operation. make fuzz makes more.
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
IMAGES = (sample_bytes("anger", 1), sample_bytes("happiness", 1), two_faces(), no_face(), b"no image", b"")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, bytes]]:
    """The address of a service with keys, the id of a session with four classes, and its export."""
    with Service(tmp_path_factory.mktemp("served"), CSRN_API_KEYS="ann:secret-a") as service:
        service.client.headers.update(HEADERS)
        path = teach(service.client, dict.fromkeys(EXPRESSIONS, 1))
        yield service.url, path.rpartition("/")[2], service.client.get(f"{path}/export").content
    assert "Traceback" not in service.log_text, service.log_text[-4000:]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_responses_are_as_documented(session: tuple[str, str, bytes], mode: GenerationMode) -> None:
    url, session_id, archive = session
    archives = st.sampled_from([archive, archive[:-1], b"", b"text"])
    schemathesis.openapi.media_type("application/octet-stream", archives)
    for media_type in ("image/jpeg", "image/png", "image/webp"):
        schemathesis.openapi.media_type(media_type, st.sampled_from(IMAGES))
    statuses: collections.Counter[int] = collections.Counter()

    def check_response(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            make_likely(case, session_id, archive)
        response = case.call(headers=HEADERS)
        statuses[response.status_code] += 1
        body = case.meta.components.get(ParameterLocation.BODY)
        # A valid request may be refused for what an image shows. Unknown headers are ignored.
        excluded = [positive_data_acceptance]
        if body is None or body.mode is not GenerationMode.NEGATIVE:
            excluded.append(negative_data_rejection)
        case.validate_response(response, excluded_checks=excluded, headers=HEADERS)

    schema: Any = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for operation in schema.get_all_operations():
        cases = operation.ok().as_strategy(generation_mode=mode)
        with contextlib.suppress(Unsatisfiable):  # Some operations accept every request.
            LIMITS(given(case=cases)(check_response))()
    print(dict(statuses))
    expected = {200, 201, 404, 422} if mode is GenerationMode.POSITIVE else {401, 404, 422}
    assert expected <= statuses.keys()


def make_likely(case: Any, session_id: str, archive: bytes) -> None:
    """Give most valid requests a session that exists, and images. What they get depends on the case alone."""
    number = sum(repr([case.path_parameters, case.body]).encode())
    if "session_id" in case.path_parameters and case.operation.method != "delete" and number % 4:
        case.path_parameters["session_id"] = session_id
    if not isinstance(case.body, dict):
        return
    as_json = case.media_type == "application/json"
    for field in case.body.keys() & {"images", "support"}:
        images = [IMAGES[(number + i) % len(IMAGES)] for i in range(1 + number % 3)]
        case.body[field] = [base64.b64encode(image).decode() for image in images] if as_json else images
    if case.body.get("labels") and number % 3:
        count = len(case.body.get("support") or case.body["images"])
        case.body["labels"] = (case.body["labels"] * count)[:count]
    if case.operation.method == "patch":
        case.body.pop("ttl_s", None)  # The session must not expire.
    if "file" in case.body:
        case.body["file"] = archive
