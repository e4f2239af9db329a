"""Find a data set by its name: files of the user's own, scikit-learn's digits, or the Hugging Face Hub."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fedmpq.data.huggingface import read_files, read_hub
from fedmpq.data.splits import PARTS, Source, Split
from fedmpq.errors import UserError

HUB = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
}
"""Short names of data sets on the Hub."""
LAYOUT = "train-*.parquet and test-*.parquet, or train/<class>/ and test/<class>/ with images"


def above_raw(root: Path, source: str) -> Path:
    """The folder data/ in which raw/`source` is.

    `dvc exp run --temp` works in a copy of the repository without ignored files; DVC_ROOT leads back.
    """
    folders = [Path(os.environ.get("DVC_ROOT") or root) / "data", root / "data"]
    return next((folder for folder in folders if (folder / "raw" / source).is_dir()), folders[0])


def open_source(
    source: str, raw: Path, downloads: Path, image_column: str | None = None, label_column: str | None = None
) -> Source:
    """The data set `source`: from `raw`/`source`/ where there is something, else built in, else from the Hub.

    Args:
        source: "digits", a short name in `HUB`, owner/name on the Hub, or any folder below `raw`.
        raw: where the user's own data sets are, each in a folder: an image folder, possibly one folder deeper, or
            parquet files or whatever else Hugging Face's `datasets` reads.
        downloads: where downloads are kept.
        image_column, label_column: of tables; None: the only one of its type, or one of a usual name.

    Raises:
        UserError: there is no such data set (the message says what to put where), or it is damaged.
    """
    folder, name = raw / source, f"data/raw/{source}"
    found = _visible(folder)
    images = [path for path in (folder, *found) if any(inner.is_dir() for inner in _visible(path / "train"))]
    if len(images) + any(folder.glob("*.parquet")) > 1:
        raise UserError(f"{folder} holds several data sets, also in {images[-1]}; leave one")
    if images or (source == "digits" and not found):
        if image_column or label_column:
            raise UserError(f"{source} is no table; allowed for image_column and label_column: null")
        return _image_folder(images[0], f"image folder {name}") if images else _digits()
    if found:
        tables = read_files(folder, f"in {name}", downloads, f"put there {LAYOUT}")
    elif source in HUB or source.count("/") == 1:
        tables = read_hub(HUB.get(source, source), downloads, f"put {LAYOUT} in {folder}/ instead")
    else:
        others = f"use {', '.join(['digits', *HUB])}, or owner/name on the Hub"
        raise UserError(f"no data set {source!r}: put {LAYOUT} in {folder}/, or {others}")
    return tables.source(image_column, label_column)


def _visible(folder: Path) -> list[Path]:
    """What is in `folder`, if it is there, but for what systems leave in folders."""
    return sorted(path for path in folder.glob("*") if not path.name.startswith((".", "__MACOSX")))


def _image_folder(folder: Path, description: str) -> Source:
    """The data set of train/<class>/ and test/<class>/, where images may lie deeper.

    The library `datasets` reads image folders too, but takes a class that is called "train" or "test", as CIFAR-100
    has one, for a part, and the innermost folder for the class.
    """
    classes = {path.name: path.name for path in _visible(folder / "train") if path.is_dir()}
    parts = [part for part in PARTS if (folder / part).is_dir()][:2]
    return Source.of(description, classes, {part: _split(folder / part) for part in parts})


def _split(folder: Path) -> Split:
    images = [path for label in _visible(folder) if label.is_dir() for path in _images(label)]
    labels = [path.relative_to(folder).parts[0] for path in images]
    return Split(labels, images.__getitem__, lambda number: str(images[number]))


def _images(folder: Path) -> Iterator[Path]:
    for path in _visible(folder):
        if path.is_dir():
            yield from _images(path)
        elif path.suffix.lower() in Image.registered_extensions():
            yield path


def _digits() -> Source:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, 0 .. 16."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, test = Split(digits.target, pixels.__getitem__, "digits, image {}".format).hold_out()
    return Source.of("scikit-learn's digits", {n: str(n) for n in range(10)}, {"train": train, "test": test})
