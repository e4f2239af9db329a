"""Image folders: train/<class>/* and test/<class>/*.

The library `datasets` reads image folders too, but takes a class that is called "train" or "test", as CIFAR-100
has one, for a part, and the folders `images` of Tiny-ImageNet for a class.
"""

from pathlib import Path

import numpy as np

from fedmpq.data.splits import Source, Split, used
from fedmpq.errors import UserError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2"}
Labelled = list[tuple[Path, str]]


def is_image_folder(folder: Path) -> bool:
    """Whether there are folders, the classes, in `folder`/train, rather than files of another kind."""
    return (folder / "train").is_dir() and bool(_folders(folder / "train"))


def read_folder(folder: Path, description: str) -> Source:
    """The data set in `folder`: the name of a folder below `train` is the name of a class.

    Images may lie deeper; hidden files and files that are no images are left out. The original Tiny-ImageNet,
    whose validation images lie in one folder with a list of their classes beside it, is understood as well.

    Raises:
        UserError: there are no images, or the test set has a class that the training set has not.
    """
    classes = [path.name for path in _folders(folder / "train")]
    annotations = folder / "val" / "val_annotations.txt"
    if annotations.is_file():
        images = {"train": _in_class_folders(folder / "train"), "val": _in_list(annotations)}
    else:
        parts = used([path.name for path in _folders(folder)])
        if len({(folder / part).resolve() for part in parts}) < len(parts):
            raise UserError(f"{folder / parts[1]} is the training folder; the test images must be others")
        images = {part: _in_class_folders(folder / part) for part in parts}
    return Source.of(description, classes, {part: _split(found, classes) for part, found in images.items()})


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _in_class_folders(folder: Path) -> Labelled:
    return [
        (image, path.name) for path in _folders(folder) for image in sorted(path.rglob("*")) if _is_image(image, path)
    ]


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in EXTENSIONS and not hidden and path.is_file()


def _in_list(annotations: Path) -> Labelled:
    """Lines of file name, class and a box, tab-separated; the files lie in `images` beside it."""
    lines = [f"{line}\t".split("\t") for line in annotations.read_text().splitlines()]
    return [(annotations.parent / "images" / name, label) for name, label, *_ in lines]


def _split(images: Labelled, classes: list[str]) -> Split:
    numbers = {name: number for number, name in enumerate(classes)}
    for path, name in images:
        if name not in numbers:
            raise UserError(f"{path}: there is no class {name!r} in the training set; add it there or remove it")
    labels = np.array([numbers[name] for _, name in images], dtype=np.int64)
    return Split(labels, lambda number: images[number][0], lambda number: str(images[number][0]))
