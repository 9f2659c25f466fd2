"""`csrn sessions` and `csrn classify --url`, with a running service."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from app.main import create_app
from csrn_client import Client
from tests.support.api import settings
from tests.support.command_line import csrn, csrn_succeeds
from tests.support.samples import SAMPLES, no_face
from tests.support.service import csrn as csrn_process
from tests.support.service import served


@pytest.fixture(scope="module")
def url(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(create_app(settings(weights, tmp_path_factory.mktemp("service")))) as url:
        yield url


@pytest.fixture(autouse=True)
def _known_service(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CSRN_URL", url)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def taught(url: str) -> str:
    """The id of a session with two classes, whose name looks like markup and an emoji code."""
    with Client(url) as client:
        session = client.create_session(name="[red]me[/red]:smile:\x1b[31m")
        images = [SAMPLES / "anger" / f"{index:02}.jpg" for index in range(3)]
        client.add_support(session.id, [("calm", image) for image in images])
        images = [SAMPLES / "surprise" / f"{index:02}.jpg" for index in range(3)]
        client.add_support(session.id, [("[bold]wow", image) for image in images])
        return session.id


def test_a_session_is_created_shown_and_deleted() -> None:
    created = csrn_succeeds("sessions create --name mine --ttl-s 600 --metadata camera=door --metadata a=b=c")
    word, session_id, name = created.split()[:3]
    assert (word, name) == ("created", "(mine),")
    shown = json.loads(csrn_succeeds("sessions show", session_id, "--json"))
    assert (shown["name"], shown["metadata"]) == ("mine", {"camera": "door", "a": "b=c"})
    assert shown["expires_at"] is not None
    table = csrn_succeeds("sessions show", session_id)
    assert "metadata camera  door" in table
    assert "no classes yet" in table
    assert csrn_succeeds("sessions delete", session_id) == f"deleted {session_id}\n"
    ended = csrn("sessions show", session_id)
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith("csrn: The session does not exist")


def test_the_list_has_all_pages_and_finds_a_name(
    url: str, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "list_sessions", functools.partialmethod(Client.list_sessions, limit=2))
    with Client(url) as client:
        made = {client.create_session(name="many").id for _ in range(3)}
    try:
        named = json.loads(csrn_succeeds("sessions list --name many --json"))["sessions"]
        assert {session["id"] for session in named} == made
        lines = csrn_succeeds("sessions list").splitlines()
        assert sum(line.split()[1:2] == ["many"] for line in lines) == 3
        assert any(line.startswith(taught) and "[red]me[/red]:smile:\\x1b[31m" in line for line in lines)
        assert int(lines[-1].split()[0]) >= 4
    finally:
        deleted = csrn_succeeds("sessions delete", *sorted(made), "--json")
    assert set(json.loads(deleted)["deleted"]) == made
    assert csrn_succeeds("sessions list --name many") == "0 sessions\n"


def test_a_session_that_does_not_exist_does_not_stop_the_deletion_of_others() -> None:
    session_id = json.loads(csrn_succeeds("sessions create --json"))["id"]
    ended = csrn("sessions delete nothing ..", session_id)
    assert (ended.code, ended.stdout) == (1, f"deleted {session_id}\n")
    first, second = ended.stderr.splitlines()
    assert first.startswith("csrn: nothing: The session does not exist")
    assert second.startswith("csrn: ..: '..' cannot be part of an address")


def test_an_exported_session_can_be_imported(taught: str, tmp_path: Path) -> None:
    file = tmp_path / "session.safetensors"
    assert csrn_succeeds("sessions export", taught, file).startswith(f"exported {taught} to {file} (")
    imported = csrn_succeeds("sessions import", file)
    session_id = imported.split()[1]
    assert session_id != taught
    assert imported.endswith(": 2 classes, 6 examples\n")
    shown = csrn_succeeds("sessions show", session_id)
    assert "[bold]wow" in shown
    csrn_succeeds("sessions delete", session_id)
    file.write_text("something else")
    ended = csrn("sessions import", file)
    assert (ended.code, ended.stderr.count("\n")) == (1, 1)
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_has_the_name_of_the_session_by_default(
    taught: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = json.loads(csrn_succeeds("sessions export", taught, "--json"))
    assert written["bytes"] == (tmp_path / f"{taught}.safetensors").stat().st_size


def test_quality_prints_verdicts_confusion_and_confusing_examples(taught: str) -> None:
    quality = json.loads(csrn_succeeds("sessions quality", taught, "--json"))
    printed = csrn_succeeds("sessions quality", taught)
    for expected in ("verdict", "[bold]wow", "calm", "classified as", "% of the examples"):
        assert expected in printed
    for known in quality["classes"]:
        assert all(example["example_id"] in printed for example in known["confusing_examples"])


def test_the_quality_of_an_empty_session_is_not_measurable() -> None:
    session_id = json.loads(csrn_succeeds("sessions create --json"))["id"]
    assert "not measurable yet" in csrn_succeeds("sessions quality", session_id)
    csrn_succeeds("sessions delete", session_id)


def test_disabled_classes_do_not_count_for_the_quality_or_for_queries(url: str) -> None:
    with Client(url) as client:
        session = client.create_session()
        for label in ("anger", "surprise"):
            session.add_examples(label, [SAMPLES / label / f"{index:02}.jpg" for index in range(2)])
        client.update_class(session, "anger", enabled=False)
        printed = csrn_succeeds("sessions quality", session.id)
        assert "not measurable yet: a session needs two enabled classes" in printed
        client.update_class(session, "surprise", enabled=False)
    ended = csrn("classify --session", session.id, SAMPLES / "surprise" / "07.jpg")
    assert (ended.code, ended.stderr) == (1, "csrn: the session has no enabled class\n")
    csrn_succeeds("sessions delete", session.id)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("create --metadata camera", 2),
        ("create --ttl-s -1", 2),
        ("create --ttl-s 0", 2),
        ("create --ttl-s inf", 2),
        ("create --ttl-s nan", 2),
        ("show ..", 1),
        ("delete", 2),
        ("import /nowhere", 1),
        ("list --url http://127.0.0.1:9", 1),
        ("list --url 127.0.0.1:9", 1),
    ],
)
def test_a_fault_is_one_line_and_bad_usage_is_2(arguments: str, code: int) -> None:
    ended = csrn("sessions", arguments)
    assert (ended.code, ended.stdout, "Traceback" in ended.stderr) == (code, "", False)
    if code == 1:
        (line,) = ended.stderr.splitlines()
        assert line.startswith("csrn: ")


def test_a_service_that_cannot_be_reached_is_one_line_in_a_process_of_its_own() -> None:
    """There the attempts would be logged on stderr."""
    ended = csrn_process("sessions", "list", "--url", "http://127.0.0.1:9")
    assert (ended.returncode, ended.stderr.count("\n"), ended.stderr[:6]) == (1, 1, "csrn: ")


def test_images_are_classified_by_a_session_of_the_service(taught: str, tmp_path: Path) -> None:
    """One readable file, one that is no image, one without a face and a path of nothing."""
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "wall.png").write_bytes(no_face())
    query = SAMPLES / "surprise" / "07.jpg"
    saved, empty = tmp_path / "saved", tmp_path / "empty"
    empty.mkdir()
    ended = csrn("classify --json --session", taught, "--save", saved, "/nowhere.jpg", empty, query, tmp_path)
    assert ended.code == 1
    results = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [Path(result["filename"]).name for result in results] == ["07.jpg", "text.jpg", "wall.png"]
    first, second, third, summary = ended.stderr.splitlines()
    assert first == "csrn: /nowhere.jpg: no such image"
    assert second == f"csrn: {empty}: no image found in it"
    assert third.startswith(f"csrn: {tmp_path}/text.jpg: the file is not a JPEG")
    predicted = results[0]["faces"][0]["predicted"] or "unknown"
    assert summary == f"2 images: 1 {predicted}, 1 without a face; 3 could not be read"
    assert sorted(path.name for path in saved.iterdir()) == ["07.jpg", "wall.png"]
    with Image.open(saved / "07.jpg") as drawn, Image.open(query) as original:
        assert drawn.size == original.size


def test_saved_pictures_replace_those_of_an_earlier_run_and_no_other_file(
    taught: str, tmp_path: Path
) -> None:
    query, saved, mine = SAMPLES / "surprise" / "07.jpg", tmp_path / "saved", tmp_path / "mine.jpg"
    for _ in range(2):
        csrn_succeeds("classify --session", taught, "--save", saved, query)
    picture = saved / "07.jpg"
    picture.replace(mine)
    drawn = mine.read_bytes()
    for put_in_the_way in (
        lambda: picture.symlink_to(mine),
        lambda: picture.symlink_to(tmp_path / "nothing"),
        lambda: picture.write_text("notes"),
    ):
        put_in_the_way()
        ended = csrn("classify --session", taught, "--save", saved, query)
        assert (ended.code, ended.stdout) == (2, "")
        assert "--save would replace" in ended.stderr
        picture.unlink()
    assert sorted(tmp_path.iterdir()) == [mine, saved]
    assert mine.read_bytes() == drawn


def test_weights_are_not_for_a_running_service(taught: str) -> None:
    ended = csrn("classify --device cpu --session", taught, SAMPLES / "surprise" / "07.jpg")
    assert ended.code == 2
