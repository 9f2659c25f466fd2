"""RAF-DB basic expressions (Li, Deng and Du, CVPR 2017), in its authors' layout or in CSRN's."""

from __future__ import annotations

from pathlib import Path

from model.training.datasets.dataset import Dataset, LabelledImage, file_dataset, wrong_layout
from model.vision.images import IMAGE_SUFFIXES

LIST = "list_patition_label.txt"
"""RAF-DB's authors spell it this way"""
LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""Labels of the list's numbers 1 to 7"""
SPLITS = ("train", "test")
EXPECTED = (
    f"{LIST} (or EmoLabel/{LIST}) with Image/aligned/*_aligned.jpg, or images/ with {{train,test}}/<label>/*"
)


def open_rafdb(source: Path) -> Dataset:
    """Open RAF-DB: the list with its aligned images, or CSRN's layout. Raises: DatasetInvalid.

    CSRN's layout is {train,test}/<label>/<name> beside images/<name>. Its images_eye and images_lip
    are not read, because `prepare` cuts its own eye and lip patches.
    """
    root = source / "basic" if (source / "basic").is_dir() else source
    lists = [path for path in (root / LIST, root / "EmoLabel" / LIST) if path.is_file()]
    images = _listed_images(root, lists[0]) if lists else _images_in_csrn_layout(root)
    return file_dataset(root, images, expected=EXPECTED)


def _listed_images(root: Path, listed: Path) -> list[LabelledImage]:
    folders = [folder for folder in (root / "Image" / "aligned", root / "aligned") if folder.is_dir()]
    if not folders:
        found = [path.name for path in root.iterdir()]
        raise wrong_layout(root, expected=f"Image/aligned beside {LIST}", found=found)
    folder = folders[0].relative_to(root)
    images = []
    for number, line in enumerate(listed.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        split = name.partition("_")[0]
        if split not in SPLITS or label not in {str(index + 1) for index in range(len(LABELS))}:
            expected = f"lines such as 'train_00001.jpg 5' with labels 1 to 7, in line {number}"
            raise wrong_layout(listed, expected=expected, found=[line[:60]])
        path = folder / f"{Path(name).stem}_aligned{Path(name).suffix}"
        images.append(LabelledImage(source=path.as_posix(), label=LABELS[int(label) - 1], split=split))
    missing = [image.source for image in images if not (root / image.source).is_file()]
    if len(missing) == len(images):
        raise wrong_layout(root, expected=missing[0] if missing else f"lines in {LIST}", found=["none of it"])
    return images


def _images_in_csrn_layout(root: Path) -> list[LabelledImage]:
    """The whole image of each labelled file, or the labelled file itself if there is no whole image."""
    images = []
    for split in SPLITS:
        for path in (root / split).glob("*/*"):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                whole = root / "images" / path.name
                source = (whole if whole.is_file() else path).relative_to(root).as_posix()
                images.append(LabelledImage(source=source, label=path.parent.name.lower(), split=split))
    return images
