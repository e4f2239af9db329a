"""Image folders: train/<class>/* and test/<class>/*."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedmpq.data.splits import Encoded, Source, Split
from fedmpq.errors import UserError

TEST_NAMES = ("test", "validation", "valid", "val")
EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2"}
Labelled = list[tuple[Path, int]]


def folder_source(folder: Path, description: str) -> Source:
    """The data set in `folder`: the name of a folder below `train` is the name of a class.

    Images may lie deeper; hidden files and files that are no images are left out. Where there is no
    `test`, `validation`, `valid` or `val` serves. The original Tiny-ImageNet, whose validation images
    lie in one folder with a list of their classes beside it, is understood as well.

    Raises:
        UserError: a split is missing or empty, or the test set has a class that the training set has not.
    """
    classes = [path.name for path in _folders(folder / "train")]
    train = _in_class_folders(folder / "train", classes)
    annotations = folder / "val" / "val_annotations.txt"
    if annotations.is_file():
        test = _in_list(annotations, classes)
    else:
        test_folder = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
        if test_folder is None:
            raise UserError(f"{folder} has train but no test (or val); put the test images in {folder}/test/<class>/")
        if test_folder.resolve() == (folder / "train").resolve():
            raise UserError(f"{test_folder} is the training folder; the test images must be others")
        test = _in_class_folders(test_folder, classes)
    return Source(f"image folder {description}", classes, _split(train), _split(test))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _in_class_folders(folder: Path, classes: list[str]) -> Labelled:
    labels = {name: label for label, name in enumerate(classes)}
    images = []
    for path in _folders(folder):
        if path.name not in labels:
            raise UserError(f"{path}: there is no class {path.name!r} in the training set; add it there or remove it")
        images += [(image, labels[path.name]) for image in sorted(path.rglob("*")) if _is_image(image, path)]
    if not images:
        raise UserError(f"{folder} holds no images; put them in {folder}/<class>/ ({' '.join(sorted(EXTENSIONS))})")
    return images


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in EXTENSIONS and not hidden and path.is_file()


def _in_list(annotations: Path, classes: list[str]) -> Labelled:
    """Lines of file name, class and a box, tab-separated; the files lie in `images` beside it."""
    labels = {name: label for label, name in enumerate(classes)}
    images = []
    for number, line in enumerate(annotations.read_text().splitlines(), 1):
        name, label, *_ = [*line.split("\t"), ""]
        image = annotations.parent / "images" / name
        if label not in labels or not image.is_file():
            raise UserError(f"{annotations}, line {number}: no class {label!r} or no file {image}; unpack it again")
        images.append((image, labels[label]))
    if not images:
        raise UserError(f"{annotations} is empty; unpack it again")
    return images


def _split(images: Labelled) -> Split:
    def encoded() -> Iterator[tuple[str, Encoded]]:
        return ((str(path), path) for path, _ in images)

    return Split(np.array([label for _, label in images], dtype=np.int64), encoded)
