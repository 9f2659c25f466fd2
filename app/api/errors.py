"""Why a request or a stream cannot be answered.

RequestError
├─ NotFound              404  not_found
├─ MethodNotAllowed      405  method_not_allowed
├─ StreamIdle            408  idle
├─ BodyTooLarge          413  body_too_large
├─ UnsupportedMediaType  415  unsupported_media_type
├─ InvalidRequest        422  invalid_request
│  ├─ InvalidLabel       422  invalid_label
│  └─ NoImages           422  no_images
├─ NoExampleAdded        422  no_example_added, or the code that all images have in common
└─ NotReady              503  not_ready
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from csrn_client.schemas import FieldError, RejectedImage
from model.errors import CsrnError


class RequestError(CsrnError):
    """Base class of the errors about requests."""

    members: Mapping[str, object] = {}
    """Further members of the problem details"""


class NotFound(RequestError):
    code, status, title = "not_found", 404, "There is nothing at this address"


class MethodNotAllowed(RequestError):
    code, status, title = "method_not_allowed", 405, "This address does not support the method"


class StreamIdle(RequestError):
    """A stream received no frame for CSRN_STREAM_IDLE_S."""

    code, status, title = "idle", 408, "The stream received no frame for too long"


class BodyTooLarge(RequestError):
    """The body, one of its parts, or their number is too large."""

    code, status, title = "body_too_large", 413, "The request is too large"


class UnsupportedMediaType(RequestError):
    code, status, title = "unsupported_media_type", 415, "The request has the wrong content type"


class InvalidRequest(RequestError):
    """A parameter, field or the whole body is not as documented."""

    code, status, title = "invalid_request", 422, "The request is not as documented"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        if errors:
            self.members = {"errors": [error.model_dump() for error in errors]}


class InvalidLabel(InvalidRequest):
    code, title = "invalid_label", "A label is missing or malformed"


class NoImages(InvalidRequest):
    code, title = "no_images", "The request has no images"


class NoExampleAdded(RequestError):
    code, status, title = "no_example_added", 422, "None of the images can be an example"

    def __init__(self, rejected: Sequence[RejectedImage]) -> None:
        super().__init__(rejected[0].detail if len(rejected) == 1 else "see rejected")
        self.members = {"rejected": [image.model_dump() for image in rejected]}
        if len({image.code for image in rejected}) == 1:
            self.code = rejected[0].code  # type: ignore[misc]


class NotReady(RequestError):
    code, status, title = "not_ready", 503, "The service is not ready"
