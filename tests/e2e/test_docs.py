"""The documents for people: their examples work as written, and their links lead to something."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from tests.support.browser import FRAME_HEIGHT, FRAME_WIDTH, FRAMES, Camera
from tests.support.command_line import csrn_succeeds
from tests.support.documents import (
    DOCUMENTS,
    ROOT,
    RUN,
    SHOWN,
    Block,
    anchors_of,
    blocks_of,
    links_of,
    prints_as_documented,
)
from tests.support.service import Service

ADDRESS = "127.0.0.1:8000"
"""The service in the documents. Their examples are run against the service of this module instead"""
BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(document.relative_to(ROOT)) for document in DOCUMENTS]
)


class Reader:
    """Someone who follows one document: a folder like a clone, a shell and a Python that remember."""

    def __init__(self, folder: Path, service: Service) -> None:
        self._folder, self._address = folder, service.url.removeprefix("http://")
        self._names: dict[str, Any] = {"__name__": "__main__"}
        for entry in ROOT.iterdir():
            if entry.name not in (".git", ".venv", "data", "runs"):
                (folder / entry.name).symlink_to(entry)
        (folder / ".venv").symlink_to(sys.prefix)
        # curl then fails on every answer that is an error.
        (folder / ".curlrc").write_text("fail-with-body\nshow-error\nmax-time = 30\n")
        self._env = {
            **os.environ,
            "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT}/app/client",
            "CURL_HOME": str(folder),
            "CSRN_URL": service.url,
            "CSRN_DEVICE": "cpu",
            "MPLBACKEND": "agg",  # opens no window
            "CSRN_STORE": f"sqlite:///{folder}/sessions.sqlite3",
        }

    def run(self, block: Block) -> str:
        """Run a block and return what it printed. Fails if the block fails."""
        text = block.text.replace(ADDRESS, self._address)
        lines = text.replace("\\\n", "").splitlines()
        if block.language == "python":
            printed = self._run_python(block, text)
        elif all(line.startswith(".venv/bin/csrn ") for line in lines):
            printed = "".join(map(self._run_csrn, lines))
        else:
            printed = self._run_shell(block, text)
        return printed.replace(self._address, ADDRESS)

    def _run_csrn(self, line: str) -> str:
        """Run csrn in this process, because starting another one takes seconds for PyTorch alone."""
        _, *words = shlex.split(Template(line).substitute(self._env), comments=True)
        with contextlib.chdir(self._folder):
            return csrn_succeeds(*words)

    def _run_python(self, block: Block, text: str) -> str:
        out = io.StringIO()
        with contextlib.chdir(self._folder), contextlib.redirect_stdout(out):
            exec(compile("\n" * block.line + text, str(block.document), "exec"), self._names)
        return out.getvalue()

    def _run_shell(self, block: Block, text: str) -> str:
        # All variables are exported (-a) and read back, so that the next block has them.
        ended = subprocess.run(
            ["bash", "-aeuo", "pipefail", "-c", f"{text}\nenv -0 > .env-after"],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, f"{block} failed:\n{ended.stdout}\n{ended.stderr}"
        after = (self._folder / ".env-after").read_text().rstrip("\0").split("\0")
        self._env = dict(entry.split("=", 1) for entry in after)
        return ended.stdout


@each_document
def test_the_examples_work_as_written(document: Path, service: Service, tmp_path: Path) -> None:
    reader = Reader(tmp_path, service)
    for block in blocks_of(document):
        if block.language in RUN and block.not_run is None:
            printed = reader.run(block)
            if block.output is not None:
                assert prints_as_documented(printed, block.output), f"{block} printed:\n{printed}"
        elif block.language in RUN:
            print(f"{block} is not run: {block.not_run}")


@each_document
def test_each_block_names_its_language_and_is_run_or_says_why_not(document: Path) -> None:
    for block in blocks_of(document):
        assert block.language in (*RUN, *SHOWN), f"{block}: the language is {block.language!r}"
        assert block.not_run is None or block.language in RUN, f"{block} needs no reason: it is never run"
        assert block.not_run != "", f"{block} does not say why it is not run"
        if block.language == "json":
            json.loads(block.text)


def test_the_example_of_control_reads_the_frames_of_a_camera(tmp_path: Path) -> None:
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "expression_control.py"))
    frames = list(example["camera_frames"](str(Camera(tmp_path).path)))
    assert {Image.open(io.BytesIO(frame)).size for frame in frames} == {(FRAME_WIDTH, FRAME_HEIGHT)}
    assert len(frames) == FRAMES
    seen = ["smile", "smile", "wow", "smile", "smile", "smile", "smile", None, None, None, "wow"]
    assert list(example["held_expressions"](seen)) == ["smile"]


def test_most_examples_are_run() -> None:
    """Outside the documents about Docker hosts, of which nothing can be run here."""
    examples = [block for block in BLOCKS if block.language in RUN and block.document.name != "deployment.md"]
    assert len([block for block in examples if block.not_run is None]) > len(examples) / 2


@each_document
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    for address in links_of(document):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = unquote(address).partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name}: {address}"
        assert not anchor or anchor in anchors_of(target), f"{document.name}: {address}"


def test_a_document_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    document = tmp_path / "wrong.md"
    document.write_text(WRONG)
    indented, printing, without_reason = blocks_of(document)
    assert (indented.language, without_reason.not_run) == ("", "")
    assert printing.output is not None
    assert prints_as_documented("anger 0.9\n", printing.output)
    assert not prints_as_documented("smile 0.9\n", printing.output)
    assert list(links_of(document)) == ["#a-c"]
    assert anchors_of(document) == {"a-b"}


def test_a_documented_json_object_has_the_members_that_are_printed() -> None:
    documented = dataclasses.replace(BLOCKS[0], language="json", text='{"a": [{"b": 1}]}')
    assert prints_as_documented('{"a": [{"b": 2}, {"c": 3}]}', documented)
    assert not prints_as_documented('{"a": [{"c": 2}]}', documented)
    assert not prints_as_documented('{"a": []}', documented)


WRONG = """# A b

    indented

```sh
echo anger 0.9
```

```text
anger ...
```

<!-- not run: -->
```sh
```

[x](#a-c)
"""
