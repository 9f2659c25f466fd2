"""The codes of RFC 9457 problem details: the reasons why a request can fail."""

from __future__ import annotations

CODES: dict[str, tuple[int, str]] = {
    "image_unreadable": (400, "The image cannot be read"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden_origin": (403, "Pages of other origins may not ask"),
    "not_found": (404, "There is nothing at this address"),
    "session_not_found": (404, "There is no such session"),
    "class_not_found": (404, "The session has no such class"),
    "example_not_found": (404, "The class has no such example"),
    "method_not_allowed": (405, "This address does not take that method"),
    "request_timeout": (408, "The request did not arrive in time"),
    "example_exists": (409, "The example id is taken"),
    "model_changed": (409, "The session belongs to other weights"),
    "session_limit": (409, "There are as many sessions as may be"),
    "byte_limit": (409, "The key has stored as many bytes as it may"),
    "class_limit": (409, "The session has as many classes as it may"),
    "example_limit": (409, "The session has as many examples as it may"),
    "body_too_large": (413, "The request is too large"),
    "unsupported_media_type": (415, "The request has the wrong content type"),
    "invalid_request": (422, "The request is not as documented"),
    "no_images": (422, "The request has no images"),
    "no_face": (422, "No face was found"),
    "several_faces": (422, "More than one face was found"),
    "no_classes": (422, "There is no class to compare with"),
    "no_example_added": (422, "None of the images can be an example"),
    "archive_invalid": (422, "The file is not an exported session"),
    "invalid_label": (422, "The label is missing or malformed"),
    "overloaded": (429, "The service is busy"),
    "rate_limited": (429, "The key has used up its rate"),
    "headers_too_large": (431, "The headers of the request are too large"),
    "internal_error": (500, "Something went wrong in the service"),
    "not_ready": (503, "The service is not ready"),
    "storage_full": (507, "The service has no room to store anything"),
}
"""Every code with its status and title."""
