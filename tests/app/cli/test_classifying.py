from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from tests.support.command_line import csrn, csrn_succeeds
from tests.support.samples import EXPRESSIONS, SAMPLES, no_face

QUERY = SAMPLES / "surprise" / "07.jpg"


@pytest.fixture(autouse=True)
def _seeded_weights(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.setenv("CSRN_WEIGHTS", str(weights))


def test_classify_prints_a_table_with_the_score_of_each_class() -> None:
    output = csrn_succeeds("classify --support", SAMPLES, QUERY)
    assert all(word in output for word in (*EXPRESSIONS, "score", "eyes", "prototype"))


def test_classify_prints_one_json_result_of_the_api_for_each_file() -> None:
    output = csrn_succeeds("classify --support", SAMPLES, "--json", *[QUERY] * 17)
    results = [json.loads(line) for line in output.splitlines()]
    assert [(result["index"], result["filename"]) for result in results] == [
        (i, str(QUERY)) for i in range(17)
    ]
    (face,) = results[16]["faces"]
    best = face["scores"][0]
    assert Path(best["nearest_example_id"]).parent == SAMPLES / best["label"]


def test_classify_prints_the_best_classes_only_if_asked() -> None:
    output = csrn_succeeds("classify --support", SAMPLES, "--json --top-k 2", QUERY)
    (face,) = json.loads(output)["faces"]
    assert len(face["scores"]) == 2
    assert face["scores"][0]["score"] >= face["scores"][1]["score"]


def test_classify_prints_one_csv_line_for_each_face(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "plain.png").write_bytes(no_face())
    files = (SAMPLES / "surprise", SAMPLES / "anger" / "0[5-7].jpg", tmp_path)
    ended = csrn("classify --support", SAMPLES, "--csv --unknown-below 0.5", *files)
    assert (ended.code, ended.stderr.splitlines()[0].split(": ")[:2]) == (1, ["csrn", f"{tmp_path}/text.jpg"])
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert len(rows) == 8 + 3 + 2
    assert rows[8]["filename"].endswith("anger/05.jpg")
    assert [row["error"] for row in rows[-2:]] == ["no_face", "image_unreadable"]
    for row in rows[:-2]:
        best = max(EXPRESSIONS, key=lambda label: float(row[f"score {label}"]))
        assert row["predicted"] == (best if float(row[f"score {best}"]) >= 0.5 else "")


@pytest.mark.parametrize("options", ["", "--json", "--csv"])
def test_classify_reads_files_whose_names_are_not_utf_8(tmp_path: Path, options: str) -> None:
    support, queries = tmp_path / "support", tmp_path / "queries"
    for label, expression in (("calm", "anger"), ("wow", "surprise")):
        (support / label).mkdir(parents=True)
        shown = support / label / os.fsdecode(b"\xffshown.jpg")
        shown.write_bytes((SAMPLES / expression / "00.jpg").read_bytes())
    (support / "calm" / os.fsdecode(b"\xffwall.png")).write_bytes(no_face())
    queries.mkdir()
    (queries / os.fsdecode(b"\xe9t\xe9.jpg")).write_bytes(QUERY.read_bytes())
    if options:
        (queries / os.fsdecode(b"\xff.jpg")).write_text("no image")
    ended = csrn("classify --support", support, options, queries)
    (ended.stdout + ended.stderr).encode()
    assert ended.code == 1, ended.stderr
    assert rf"csrn: {support}/calm/\xffwall.png is not used" in ended.stderr
    assert (rf"csrn: {queries}/\xff.jpg: the file is not a JPEG" in ended.stderr) == bool(options)
    if options == "--json":
        result = json.loads(ended.stdout.splitlines()[0])
        assert result["filename"] == rf"{queries}/\xe9t\xe9.jpg"
        nearest = {score["nearest_example_id"] for score in result["faces"][0]["scores"]}
        assert nearest == {rf"{support}/{label}/\xffshown.jpg" for label in ("calm", "wow")}
    else:
        # The title of a table is wrapped.
        assert rf"{queries}/\xe9t\xe9.jpg" in "".join(ended.stdout.split())


def test_classify_names_a_support_folder_whose_name_cannot_be_a_label(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / "face.jpg").write_bytes(QUERY.read_bytes())
    ended = csrn("classify --support", tmp_path, QUERY)
    assert ended.code == 1
    assert ended.stderr == rf"csrn: {tmp_path}/\xff: a label is valid UTF-8" + "\n"


def test_classify_names_support_files_that_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "calm" / "wall.png").write_bytes(no_face())
    ended = csrn("classify --support", tmp_path, QUERY)
    assert (ended.code, ended.stdout) == (1, "")
    rejected, end = ended.stderr.splitlines()
    assert "wall.png is not used: " in rejected
    assert end == "csrn: no support image shows one clear face"
    (tmp_path / "calm" / "face.jpg").write_bytes(QUERY.read_bytes())
    (tmp_path / "calm" / "gone.jpg").symlink_to("nowhere")
    ended = csrn("classify --support", tmp_path, "--csv --unknown-below 0", QUERY)
    assert (ended.code, ended.stdout.count(",calm,")) == (1, 1)
    first, second, summary = sorted(ended.stderr.splitlines())[1:] + ended.stderr.splitlines()[-1:]
    assert "gone.jpg is not used: No such file or directory" in first
    assert "wall.png is not used: " in second
    assert summary == "1 image: 1 calm"


def test_classify_fails_with_one_line_for_each_unreadable_image(tmp_path: Path) -> None:
    files = [tmp_path / "one.jpg", tmp_path / "two.jpg"]
    for file in files:
        file.write_text("no image")
    ended = csrn("classify --support", SAMPLES, *files)
    assert (ended.code, ended.stdout) == (1, "")
    *faults, summary = ended.stderr.splitlines()
    assert [line.split(": ")[:2] for line in faults] == [["csrn", str(file)] for file in files]
    assert summary == "0 images; 2 could not be read"


def test_classify_goes_on_after_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "shown.jpg").write_bytes(QUERY.read_bytes())
    ended = csrn("classify --support", SAMPLES, "--csv", tmp_path)
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert ended.code == 1
    assert [row["error"] for row in rows] == ["file_unreadable", ""]
    assert f"csrn: {tmp_path}/gone.jpg: No such file or directory" in ended.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("classify --support /nowhere x.jpg", 1),
        (f"classify --support {SAMPLES} /nowhere.jpg", 1),
        ("classify x.jpg", 2),
        ("classify --session s x.jpg", 2),
        (f"classify --support {SAMPLES} --json --csv x.jpg", 2),
        (f"classify --support {SAMPLES} --top-k 0 x.jpg", 2),
        (f"classify --support {SAMPLES} --unknown-below nan x.jpg", 2),
        (f"classify --support {SAMPLES} --device tpu x.jpg", 2),
        (f"classify --support {SAMPLES} --url http://127.0.0.1:9 --device cpu {QUERY}", 2),
        (f"classify --support {SAMPLES} --save {QUERY.parent} {QUERY}", 2),
        (f"classify --support {SAMPLES} --weights /nowhere {QUERY}", 1),
        (f"classify --support {SAMPLES} --url http://127.0.0.1:9 {QUERY}", 1),
        (f"classify --support {SAMPLES} --url 127.0.0.1 {QUERY}", 1),
        ("convert /nowhere /nowhere /tmp/x", 1),
        ("evaluate /nowhere", 1),
        ("prepare cifar /nowhere /tmp/x", 2),
        ("prepare fer2013 /nowhere /tmp/x", 1),
        ("nonsense", 2),
        ("train /nowhere --out /tmp/x", 1),
        ("train /nowhere --out /tmp/x --seed -1", 2),
        ("train /nowhere --out /tmp/x --teacher-share nan", 2),
        ("train /nowhere --out /tmp/x --votes-weight inf", 2),
        ("evaluate /nowhere --way 0", 2),
    ],
)
def test_a_failure_is_one_line_with_exit_code_1_and_bad_usage_is_2(arguments: str, code: int) -> None:
    ended = csrn(arguments)
    assert ended.code == code
    assert "Traceback" not in ended.stderr
    if code == 1:
        (line,) = ended.stderr.splitlines()
        assert line.startswith("csrn: ")
