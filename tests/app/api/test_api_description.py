"""What /openapi.json says about the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.api.api_description import EXAMPLES
from csrn_client import schemas

SESSIONS = ["create", "list", "get", "update", "delete", "export", "import"]
OPERATIONS = {
    *(f"{action}_session" + "s" * (action == "list") for action in SESSIONS),
    *("get_quality", "add_support", "add_examples", "replace_class", "get_class", "update_class"),
    *("delete_class", "delete_example", "classify", "classify_stateless", "get_samples", "get_model"),
    *("livez", "readyz", "get_metrics"),
}
IMAGE_CALLS = ("classify", "classify_stateless", "add_support", "add_examples", "replace_class")


@pytest.fixture(scope="module")
def api(client: TestClient) -> Any:
    return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def operations(api: Any) -> dict[str, Any]:
    """All operations by their ids."""
    every = [operation for path in api["paths"].values() for operation in path.values()]
    return {operation["operationId"]: operation for operation in every}


def test_operations_have_short_names_and_tags_in_the_order_of_use(api: Any, operations: Any) -> None:
    assert operations.keys() == OPERATIONS
    tags = [tag["name"] for tag in api["tags"]]
    assert tags == ["sessions", "support", "classify", "samples", "system"]
    assert {tag for operation in operations.values() for tag in operation["tags"]} == set(tags)
    for word in ("**Teach.**", "**Classify.**", "not a probability", "Authorization: Bearer KEY"):
        assert word in api["info"]["description"]


def undescribed(schema: Any, path: str) -> Iterator[str]:
    """The fields in a schema that have no description."""
    for name, field in schema.get("properties", {}).items():
        if not field.get("description"):
            yield f"{path}.{name}"


def test_every_field_parameter_and_response_is_described(api: Any, operations: Any) -> None:
    wrong = [hit for name, kind in api["components"]["schemas"].items() for hit in undescribed(kind, name)]
    for name, operation in operations.items():
        wrong += [f"{name} {p['name']}" for p in operation.get("parameters", []) if "description" not in p]
        for status, response in operation["responses"].items():
            if response["description"] == "Successful Response":
                wrong.append(f"{name} {status}")
    assert wrong == []


@pytest.mark.parametrize("name", IMAGE_CALLS)
def test_every_content_type_of_images_is_described(api: Any, operations: Any, name: str) -> None:
    content = operations[name]["requestBody"]["content"]
    kinds = api["components"]["schemas"]
    images = ["image/jpeg", "image/png", "image/webp"] if name == "classify" else []
    assert [*content] == ["multipart/form-data", "application/json", *images]
    form, json = (
        kinds[content[media_type]["schema"]["$ref"].rpartition("/")[2]]
        for media_type in ("multipart/form-data", "application/json")
    )
    assert form["properties"]["images"]["items"] == {"type": "string", "format": "binary"}
    assert json["properties"]["images"]["items"] == {"type": "string", "contentEncoding": "base64"}
    assert form["properties"].keys() == json["properties"].keys()
    # With defaults, generated clients require a field or send it always.
    assert not any(
        "default" in field for field in [*form["properties"].values(), *json["properties"].values()]
    )
    assert form["additionalProperties"] is json["additionalProperties"] is False
    assert all(content[kind]["schema"] == {"type": "string", "format": "binary"} for kind in images)


def test_examples_are_as_documented(api: Any, client: TestClient, session: str) -> None:
    for name, example in EXAMPLES.items():
        model = getattr(schemas, name)
        written = model.model_validate(example).model_dump(mode="json", exclude_unset=True)
        assert written == example
        assert api["components"]["schemas"][name]["examples"] == [example]
    assert client.post("/v1/sessions", json=EXAMPLES["NewSession"]).status_code == 201


@pytest.mark.parametrize("name", IMAGE_CALLS)
def test_the_example_of_a_request_is_accepted_up_to_its_images(
    client: TestClient, session: str, api: Any, name: str
) -> None:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            if operation["operationId"] == name:
                example = operation["requestBody"]["content"]["application/json"]["example"]
                url = path.replace("/v1/sessions/{session_id}", session).replace("{label}", "smile")
                code = client.request(method, url, json=example).json()["code"]
                # Its images are too short to be read, and the session has no classes.
                assert code in ("image_unreadable", "no_classes")
