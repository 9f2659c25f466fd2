"""/openapi.json: the words about the whole API, and examples of its objects."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.access.errors import Overloaded
from app.api.errors import NoExampleAdded, NotReady
from app.api.media_types import JSON
from app.api.problems import PROBLEM_MEDIA_TYPE, PROBLEM_RESPONSES, code_schema, problem_members
from csrn_client.schemas import RejectedImage
from model.errors import CsrnError

OVERVIEW = """\
**Teach.** Create a session (`POST /v1/sessions`). Then send images with one face each, and a label for
each image (`POST /v1/sessions/{id}/support`): five to ten varied images of each expression. Nothing is
trained, so the classes can be used at once, and you can change them at any time.

**Classify.** Send other images to `POST /v1/sessions/{id}/classify`. For each image you get the face, its
score for each class, best first, and the predicted class, which is `null` if no class is similar enough. To
classify a camera live, send its frames to the WebSocket `/v1/sessions/{id}/stream`.

**What scores are.** A score says how similar the face is to the examples of a class, from 0 to 1. It is a
relation score, not a probability: the scores of a face do not add up to 1. Compare them with each other and
with `unknown_below`, the threshold of the session. The service recognises expressions, not feelings.

Calls below `/v1` need `Authorization: Bearer KEY` if the service has keys (*Authorize*). A call that takes
images takes a form with files, or JSON with the images as base64 text. Fields and parameters that a call
does not have are refused. Errors are problem details (RFC 9457); their `code` says what is wrong.
"""
TAGS = [
    {"name": "sessions", "description": "A session holds the classes that you teach. Start here."},
    {"name": "support", "description": "The support set: the classes of a session and their examples."},
    {"name": "classify", "description": "Scores of the faces in images."},
    {"name": "samples", "description": "Sample faces for trying the service."},
    {"name": "system", "description": "The weights, health and metrics of the service."},
]
"""In the order of use"""

_SHA256 = "1d3f7f0a9a5c3f5e8b6d2c4a7e9f0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f70"
_SESSION = {
    "id": "8c1f0b6d5a3e4f27a1b2c3d4e5f60718",
    "name": "demo",
    "created_at": "2026-01-31T12:00:00Z",
    "expires_at": "2026-01-31T13:00:00Z",
    "revision": 1,
    "weights_sha256": _SHA256,
    "metadata": {"room": 7},
    "classes": [
        {"label": "bored", "examples": 1, "enabled": True},
        {"label": "smile", "examples": 1, "enabled": True},
    ],
}
_BOX = {"x_min": 92.5, "y_min": 110.0, "x_max": 262.3, "y_max": 301.8}
_REJECTED = {"index": 2, "filename": "wall.jpg", "code": "no_face", "detail": "no face found"}
_SCORES = [
    {
        "label": label,
        "score": score,
        "parts": {"face": score, "eyes": score, "lips": score, "prototype": score},
        "nearest_example_id": example_id,
    }
    for label, score, example_id in (("smile", 0.71, "smile-1"), ("bored", 0.38, "bored-1"))
]
EXAMPLES: dict[str, dict[str, Any]] = {
    "NewSession": {"name": "demo", "ttl_s": 3600, "metadata": {"room": 7}},
    "SessionChange": {"name": "demo 2", "ttl_s": 7200},
    "ClassChange": {"label": "grin", "enabled": False},
    "Session": _SESSION,
    "SessionPage": {"sessions": [_SESSION], "next_cursor": None},
    "Class": {"label": "smile", "examples": 1, "enabled": True, "example_ids": ["smile-1"]},
    "Added": {
        "session": _SESSION,
        "added": [
            {"index": 0, "example_id": "smile-1", "label": "smile", "box": _BOX},
            {"index": 1, "example_id": "bored-1", "label": "bored", "box": _BOX},
        ],
        "rejected": [_REJECTED],
    },
    "Results": {
        "results": [
            {
                "index": 0,
                "filename": "me.jpg",
                "faces": [{"box": _BOX, "predicted": "smile", "scores": _SCORES, "margin": 0.33}],
            }
        ],
        "model": {"weights_sha256": _SHA256},
        "unknown_below": 0.45,
        "timings_ms": {"support": 0.4, "faces": 5.2, "network": 4.7, "total": 10.3},
    },
    "Quality": {
        "revision": 4,
        "accuracy": 0.75,
        "unknown_below": 0.45,
        "labels": ["bored", "smile"],
        "confusion": [[2, 0], [1, 1]],
        "classes": [
            {
                "label": "bored",
                "examples": 2,
                "correct": 2,
                "verdict": "clear",
                "detail": "2 of 2 examples are classified correctly.",
                "confused_with": [],
                "confusing_examples": [],
            },
            {
                "label": "smile",
                "examples": 2,
                "correct": 1,
                "verdict": "mixed",
                "detail": "1 of 2 examples are classified correctly. The others look like bored: "
                "replace them, or add clearer ones.",
                "confused_with": [{"label": "bored", "examples": 1}],
                "confusing_examples": [{"example_id": "smile-2", "predicted": "bored", "margin": -0.08}],
            },
        ],
    },
    "Model": {
        "encoder": "resnet",
        "patch_layout": "tight",
        "patch_size": 48,
        "part_weights": {
            "face": 0.05,
            "eyes": 0.15,
            "lips": 0.15,
            "prototype": 0.05,
            "cosine": 1.0,
            "votes": 1.0,
            "geometry": 0.25,
        },
        "weights_sha256": _SHA256,
        "device": "cpu",
        "trained_on": "fer2013, train images of angry, disgust, fear, happy, neutral, sad, surprise",
    },
}
"""An example of each main object, by the name of its schema"""
PROBLEMS: dict[str, CsrnError] = {
    "4XX": NoExampleAdded([RejectedImage.model_validate(_REJECTED)]),
    "429": Overloaded("the service handles 512 requests at once: try again shortly"),
    "5XX": CsrnError(),
    "503": NotReady(),
}
"""An error of each group of statuses that a route answers"""


DONE = {"description": "Done"}


def operation_id(route: APIRoute) -> str:
    """The name of the route's function: generated clients name their functions after it."""
    return route.name


def describe(app: FastAPI) -> None:
    """Complete /openapi.json with what FastAPI cannot say: examples, problems, descriptions of responses."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        described = app.openapi_schema is not None
        schema = generate()
        if not described:
            schemas = schema["components"]["schemas"]
            for path in schema["paths"].values():
                for operation in path.values():
                    _describe_operation(operation, schemas)
            schemas["Problem"]["properties"]["code"] |= code_schema()
            for name, example in EXAMPLES.items():
                schemas[name]["examples"] = [example]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_operation(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for response in operation["responses"].values():
        if response["description"] == "Successful Response":
            reference = response.get("content", {}).get(JSON, {}).get("schema", {}).get("$ref", "")
            response["description"] = schemas.get(reference.rpartition("/")[2], DONE)["description"]
    for status in PROBLEM_RESPONSES:
        content = operation["responses"][status]["content"]
        content[PROBLEM_MEDIA_TYPE] = {**content.pop(JSON), "example": problem_members(PROBLEMS[str(status)])}
    for parameter in operation.get("parameters", []):
        parameter["schema"] = without_null(parameter["schema"])
        if "requestBody" in operation:
            # Generated clients would send the default in the query although the body has another value.
            parameter["schema"].pop("default", None)
    # Generators name a class after the schema of a body if it is one of the components.
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "properties" in content["schema"]:
            name = content["schema"]["title"]
            schemas[name] = content["schema"]
            content["schema"] = {"$ref": f"#/components/schemas/{name}"}


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter or a form field that may be left out: only JSON can send null."""
    if "anyOf" not in schema:
        return schema
    value: dict[str, Any] = next(kind for kind in schema["anyOf"] if kind["type"] != "null")
    return {**value, **{key: schema[key] for key in schema if key not in ("anyOf", "default")}}
