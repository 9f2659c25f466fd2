"""/docs in a real browser: "Try it out" uploads files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

from tests.support.api import new_session
from tests.support.browser import needs_chromium, open_page
from tests.support.samples import SAMPLES
from tests.support.service import Service

pytestmark = needs_chromium
SHOTS = [(label, SAMPLES / label / "00.jpg") for label in ("anger", "happiness")]


def opened(page: Page, tag: str, operation: str, session_id: str) -> Locator:
    """An operation, ready to be tried out for the session."""
    section = page.locator(f"#operations-{tag}-{operation}")
    section.locator(".opblock-summary-control").click()
    section.locator(".try-out__btn").click()
    section.locator('tr[data-param-name="session_id"] input').fill(session_id)
    return section


def items(section: Locator, field: str, count: int) -> Locator:
    """The inputs of a field that takes several items, after so many were added that there are `count`."""
    row = section.locator(f'tr[data-property-name="{field}"]')
    row.wait_for()
    inputs = row.locator(".json-schema-form-item input")
    while inputs.count() < count:
        row.locator(".json-schema-form-item-add").click()
    return inputs


def answer(section: Locator) -> tuple[int, Any]:
    """The status and JSON of the response to the request that the page makes."""
    with section.page.expect_response(lambda response: response.request.method == "POST") as response:
        section.locator("button.execute").click()
    return response.value.status, response.value.json()


def test_try_it_out_uploads_files_to_teach_and_to_classify(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        path = new_session(service.client)
        session_id = path.rpartition("/")[2]
        with open_page(f"{service.url}/docs", tmp_path / "profile", uses=(service.url,)) as page:
            support = opened(page, "support", "add_support", session_id)
            files, labels = items(support, "images", len(SHOTS)), items(support, "labels", len(SHOTS))
            for number, (label, file) in enumerate(SHOTS):
                files.nth(number).set_input_files(file)
                labels.nth(number).fill(label)
            status, added = answer(support)
            assert (status, len(added["added"]), added["rejected"]) == (201, 2, [])
            classify = opened(page, "classify", "classify", session_id)
            query = SAMPLES / "happiness" / "05.jpg"
            items(classify, "images", 1).first.set_input_files(query)
            status, results = answer(classify)
            assert status == 200
            assert results["results"][0]["filename"] == query.name
            assert len(results["results"][0]["faces"][0]["scores"]) == 2
            classify.locator("select.content-type").first.select_option("image/jpeg")
            classify.locator('.opblock-section-request-body input[type="file"]').set_input_files(query)
            status, alone = answer(classify)
            assert (status, alone["results"][0]["filename"]) == (200, None)
            assert alone["results"][0]["faces"] == results["results"][0]["faces"]
