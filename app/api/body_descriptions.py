"""How /openapi.json describes bodies with images."""

from __future__ import annotations

import copy
from typing import Any

from app.api.api_description import without_null
from app.api.bodies import LIST_FIELDS
from app.api.body_models import ImagesBody
from app.api.media_types import FORM, IMAGE_MEDIA_TYPES, JSON

BINARY = {"type": "string", "format": "binary"}
"""A file. Without `format`, /docs shows a text box, and generated clients expect text"""
REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "An id of your choice, 1 to 128 characters of `A-Z a-z 0-9 . _ -`. The response and the "
    "log of the service repeat it",
}
"""Without an optional parameter, the code that openapi-python-client 0.29 generates for several content types
does not run"""
EXAMPLE_IMAGE = "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="
"""The beginning of a JPEG. It keeps the examples short"""
EXAMPLES: dict[str, Any] = {
    "images": [EXAMPLE_IMAGE],
    "support": [EXAMPLE_IMAGE, EXAMPLE_IMAGE],
    "labels": ["smile", "bored"],
    "example_ids": ["smile-1"],
    "unknown_below": 0.2,
    "all_faces": True,
    "top_k": 3,
    "regions": False,
}


def image_body(model: type[ImagesBody], *, or_one_image: bool = False) -> dict[str, Any]:
    """The OpenAPI members of an operation whose body is a form or JSON of this model.

    They are described here because FastAPI describes one content type of a body only.

    Args: or_one_image, whether the body may also be one image.
    """
    schema = model.model_json_schema()
    name = schema["title"].removesuffix("Body")
    # Images first, because they are required.
    schema["properties"] = dict(
        sorted(schema["properties"].items(), key=lambda item: item[0] not in schema["required"])
    )
    for described in schema["properties"].values():
        # Generated clients would require a field with a default, or always send it.
        described.pop("default", None)
    example = {field: EXAMPLES[field] for field in schema["properties"]}
    if "labels" in example and "support" not in example:
        example["images"] = [EXAMPLE_IMAGE, EXAMPLE_IMAGE]
    form = copy.deepcopy(schema)
    text_lists = (LIST_FIELDS - {*model.image_fields}) & form["properties"].keys()
    for field, described in form["properties"].items():
        form["properties"][field] = without_null(described)
        if field not in schema["required"]:
            # /docs sends the example unless it is changed. Of an empty list it sends nothing, and an empty
            # text counts as left out, also for a number: no number would mean the same.
            form["properties"][field]["examples"] = [[] if field in text_lists else ""]
        if field in model.image_fields:
            described["items"] = BINARY
            described["description"] += ", one file part each"
            schema["properties"][field]["description"] += (
                ", each as base64 text or as a data URL (`data:image/jpeg;base64,...`)"
            )
    # One part for each item. Without this, /docs joins texts with commas.
    encoding = {field: {"style": "form", "explode": True} for field in text_lists}
    content: dict[str, Any] = {
        FORM: {"schema": {**form, "title": f"{name}Form"}, "encoding": encoding},
        JSON: {"schema": {**schema, "title": f"{name}Json"}, "example": example},
    }
    if or_one_image:
        content |= {media_type: {"schema": BINARY} for media_type in IMAGE_MEDIA_TYPES}
    return {"parameters": [REQUEST_ID], "requestBody": {"required": True, "content": content}}
