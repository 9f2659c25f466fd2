"""Every loader on a small tree in its published layout, read through `open_dataset` as `prepare` does."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from model.errors import DatasetInvalid, ImageUnreadable
from model.training.datasets import DATASETS, open_dataset
from model.training.datasets.emotiw import FRAMES_PER_VIDEO
from model.training.datasets.rafdb import LIST

GREY = np.arange(48 * 48, dtype=np.uint32).reshape(48, 48).astype(np.uint8)


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def listed(name: str, source: Path) -> list[tuple[str, str, str]]:
    with open_dataset(name, source) as dataset:
        assert len({image.source for image in dataset.images}) == len(dataset.images)
        return [(image.source, image.label, image.split) for image in dataset.images]


def contents(name: str, source: Path) -> list[bytes]:
    with open_dataset(name, source) as dataset:
        return [dataset.read(image) for image in dataset.images]


FER2013 = {
    "fer2013/test/angry/PrivateTest_4.jpg": b"4" * 50,
    "fer2013/train/angry/Training_2.jpg": b"2" * 50,
    "fer2013/train/happy/Training_1.jpg": b"1" * 50,
}
FER2013_LISTED = [
    ("fer2013/test/angry/PrivateTest_4.jpg", "angry", "test"),
    ("fer2013/train/angry/Training_2.jpg", "angry", "train"),
    ("fer2013/train/happy/Training_1.jpg", "happy", "train"),
]


def rafdb(listed_in: str, base: str = "") -> tuple[str, str, list[str], list[tuple[str, str, str]]]:
    names = ["train_00001", "train_00002", "test_0001"]
    return (
        "rafdb",
        f"{listed_in}{LIST}",
        [f"{base}Image/aligned/{name}_aligned.jpg" for name in names],
        [
            ("Image/aligned/test_0001_aligned.jpg", "neutral", "test"),
            ("Image/aligned/train_00001_aligned.jpg", "sadness", "train"),
            ("Image/aligned/train_00002_aligned.jpg", "surprise", "train"),
        ],
    )


def sfew(between: str) -> tuple[str, str, list[str], list[tuple[str, str, str]]]:
    angry, happy = f"Train/{between}Angry/a.png", f"Val/{between}Happy/b.png"
    return "sfew", "Val/labels.txt", [angry, happy], [(angry, "angry", "train"), (happy, "happy", "val")]


@pytest.mark.parametrize(
    ("name", "listing", "files", "expected"),
    [
        ("fer2013", "readme.txt", list(FER2013), FER2013_LISTED),
        ("fer2013", "readme.txt", ["test/a/1.jpg"], [("test/a/1.jpg", "a", "test")]),
        rafdb(""),
        rafdb("EmoLabel/"),
        rafdb("basic/EmoLabel/", base="basic/"),
        (
            "rafdb",  # in CSRN's layout
            "readme.txt",
            [
                *("train/Happy/train_1.jpg", "test/Anger/test_1.jpg"),
                *(
                    f"images{part}/{name}_1.jpg"
                    for part in ("", "_eye", "_lip")
                    for name in ("train", "test")
                ),
            ],
            [("images/test_1.jpg", "anger", "test"), ("images/train_1.jpg", "happy", "train")],
        ),
        sfew(""),
        sfew("Train_Aligned_Faces/"),
        (
            "folder",
            "happy/n.txt",
            ["bored/a.jpg", "bored/more/b.PNG", "happy/c.webp", "x.jpg"],
            [
                ("bored/a.jpg", "bored", "all"),
                ("bored/more/b.PNG", "bored", "all"),
                ("happy/c.webp", "happy", "all"),
            ],
        ),
    ],
)
def test_the_images_of_each_layout_are_listed_and_read(
    name: str, listing: str, files: list[str], expected: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    """Each file holds its own name."""
    write(tmp_path, {file: file.encode() for file in files})
    write(tmp_path, {listing: b"train_00001.jpg 5\ntrain_00002.jpg 1\ntest_0001.jpg 7\n"})
    assert listed(name, tmp_path) == expected
    for data, (source, _, _) in zip(contents(name, tmp_path), expected, strict=True):
        assert data.decode().endswith(source)


def test_fer2013_zip_with_a_damaged_member(tmp_path: Path) -> None:
    source = tmp_path / "f.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name, data in FER2013.items():
            archive.writestr(name, data)
    assert listed("fer2013", source) == FER2013_LISTED
    assert contents("fer2013", source) == [b"4" * 50, b"2" * 50, b"1" * 50]
    source.write_bytes(source.read_bytes().replace(b"2" * 50, b"x" * 50))
    with open_dataset("fer2013", source) as dataset:
        assert dataset.read(dataset.images[0]) == b"4" * 50
        with pytest.raises(ImageUnreadable):
            dataset.read(dataset.images[1])


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_fer2013_csv(header: str, tmp_path: Path) -> None:
    pixels = " ".join(str(value) for value in GREY.ravel())
    rows = [("0", "Training"), ("6", "PublicTest"), ("3", "PrivateTest")]
    pixels_first = header.startswith("emotion,pixels")
    lines = [
        ",".join([label, pixels, usage] if pixels_first else [label, usage, pixels]) for label, usage in rows
    ]
    (tmp_path / "fer2013.csv").write_text("\n".join([header, *lines]) + "\n")
    expected = [
        ("Training_0", "angry", "train"),
        ("PublicTest_1", "neutral", "test"),
        ("PrivateTest_2", "happy", "test"),
    ]
    for source in (tmp_path, tmp_path / "fer2013.csv"):
        assert listed("fer2013", source) == expected
        for data in contents("fer2013", source):
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), GREY)


def test_a_csv_row_without_its_pixels_is_unreadable_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("emotion,pixels,Usage\n1,1 2 300,Training\n")
    with open_dataset("fer2013", tmp_path / "x.csv") as dataset, pytest.raises(ImageUnreadable):
        dataset.read(dataset.images[0])


def test_a_still_of_sfew_that_is_there_whole_and_aligned_is_one_group(tmp_path: Path) -> None:
    names = ["Train/Angry/a.png", "Train_Aligned_Faces/Angry/a.png", "Val/Happy/a.png"]
    write(tmp_path, dict.fromkeys([*names, "Train/Angry/raw/deeper.png"], b""))
    with open_dataset("sfew", tmp_path) as dataset:
        assert [image.source for image in dataset.images] == names
        whole, aligned, other = (image.group for image in dataset.images)
    assert whole == aligned != other


def clip(path: Path, frames: int) -> None:
    """A video whose frames grow brighter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 8 * index, dtype=np.uint8))
    writer.release()


def test_afew_frames_are_sampled_evenly_and_grouped_by_video(tmp_path: Path) -> None:
    clip(tmp_path / "Train_AFEW/Angry/0001.avi", 30)
    clip(tmp_path / "Val_AFEW/Happy/0002.avi", 2)
    with open_dataset("afew", tmp_path) as dataset:
        angry = [image for image in dataset.images if image.label == "angry"]
        assert [image.source for image in angry] == [
            f"Train_AFEW/Angry/0001.avi#{frame:05}" for frame in (3, 9, 15, 21, 27)
        ]
        assert len(angry) == FRAMES_PER_VIDEO
        assert {(image.group, image.split) for image in angry} == {("Train_AFEW/Angry/0001.avi", "train")}
        for image, frame in zip(angry, (3, 9, 15, 21, 27), strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(dataset.read(image))))
            assert pixels.mean() == pytest.approx(8 * frame, abs=3)
        happy = [image for image in dataset.images if image.label == "happy"]
        assert [(image.split, image.source[-6:]) for image in happy] == [("val", "#00000"), ("val", "#00001")]


def test_a_damaged_video_is_one_unreadable_image(tmp_path: Path) -> None:
    write(tmp_path, {"Train/Angry/0001.avi": b"damaged"})
    with open_dataset("afew", tmp_path) as dataset:
        assert [image.source for image in dataset.images] == ["Train/Angry/0001.avi#00000"]
        with pytest.raises(ImageUnreadable):
            dataset.read(dataset.images[0])


@pytest.mark.parametrize(
    ("name", "files", "reason"),
    [
        ("fer2013", {"fer2013.csv": b"a,b\n1,2\n"}, "columns emotion, pixels, Usage; found 'a', 'b'"),
        ("fer2013", {"fer2013.csv": b"emotion,pixels,Usage\n"}, "the header alone"),
        ("fer2013", {"fer2013.csv": b"emotion,pixels,Usage\n9,1 2,Training\n"}, "in row 1 emotion 0 to 6"),
        ("fer2013", {"fer2013.csv": b"emotion,pixels,Usage\n-1,1 2,Training\n"}, "in row 1 emotion 0 to 6"),
        ("fer2013", {"fer2013.csv": b"PK\x03\x04\x00\x00"}, r"a folder or zip of .* found 'PK\\x03"),
        ("fer2013", {"fer2013.csv": b"emotion,pixels,Usage\n1,1,Else\n"}, "Usage Training, PublicTest, Priv"),
        ("rafdb", {LIST: b"train_1.jpg 5\n"}, f"expected Image/aligned beside {LIST}"),
        ("rafdb", {LIST: b"x 9\n", "aligned/x": b""}, "labels 1 to 7, in line 1; found x 9"),
        ("rafdb", {LIST: b"train_1.jpg 5\n", "aligned/x": b""}, "expected aligned/train_1_aligned.jpg"),
        *((name, {"stray.txt": b""}, r"expected .*; found stray.txt") for name in DATASETS),
        *((name, {}, "does not exist") for name in DATASETS),
    ],
)
def test_a_wrong_layout_is_refused_with_what_is_there(
    name: str, files: dict[str, bytes], reason: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", files)
    with pytest.raises(DatasetInvalid, match=reason), open_dataset(name, source):
        pass
