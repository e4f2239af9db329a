"""Find a data set by its name: files of the user's own, scikit-learn's digits, torchvision's downloads."""

from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
from numpy.typing import ArrayLike

from fedmpq.data.dirichlet import validation_split
from fedmpq.data.folder import folder_source
from fedmpq.data.parquet import parquet_source
from fedmpq.data.splits import Encoded, Source, Split
from fedmpq.errors import UserError
from fedmpq.files import replacing

DOWNLOADS = {"fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""Data sets that torchvision downloads, and its classes for them."""
LAYOUT = "train-*.parquet and test-*.parquet, or train/<class>/ and test/<class>/ with images"


def open_source(name: str, raw: Path, downloads: Path) -> Source:
    """The data set `name`: from `raw`/`name`/ where there is something, else built in, else downloaded.

    Args:
        name: a built-in name, or any folder below `raw`.
        raw: where the user's own data sets are, each a folder in Hugging Face's parquet layout or an
            image folder (either may lie one folder deeper).
        downloads: where torchvision's downloads are kept.

    Raises:
        UserError: there is no such data set (the message says what to put where), or it is damaged.
    """
    folder, description = raw / name, f"data/raw/{name}"
    visible = [path for path in folder.glob("*") if not path.name.startswith(".")]
    inside = sorted(path for path in visible if path.is_dir() and path.name != "__MACOSX")
    found = [path for path in [folder] if _is_data(path)] or [path for path in inside if _is_data(path)]
    if len(found) > 1:
        raise UserError(f"{folder} holds several data sets ({', '.join(path.name for path in found)}); leave one")
    if found:
        read = parquet_source if any(found[0].glob("*.parquet")) else folder_source
        return read(found[0], description)
    if visible:
        raise UserError(f"{folder} holds neither parquet files nor a folder train; put there {LAYOUT}")
    if name == "digits":
        return _digits()
    if name in DOWNLOADS:
        return _downloaded(name, downloads / name, folder)
    built_in = ", ".join(["digits", *DOWNLOADS])
    raise UserError(f"no data set {name!r}: put {LAYOUT} in {folder}/, or use a built-in one ({built_in})")


def _is_data(folder: Path) -> bool:
    return any(folder.glob("*.parquet")) or (folder / "train").is_dir()


def _digits() -> Source:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, 0 .. 16; every fifth of a class is for testing."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    parts = validation_split(digits.target, 0.2, seed=0)
    train, test = (_in_memory("digits", pixels[part], digits.target[part]) for part in parts)
    return Source("scikit-learn's digits", [str(name) for name in digits.target_names], train, test)


def _downloaded(name: str, kept: Path, raw: Path) -> Source:
    import torchvision

    build = getattr(torchvision.datasets, DOWNLOADS[name])
    advice = f"put {LAYOUT} in {raw}/ instead"
    if not kept.is_dir():
        with replacing(kept) as temporary:
            try:
                build(temporary, download=True)
            except (URLError, HTTPException, ConnectionError, TimeoutError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"cannot download {name} ({reason}); {advice}") from error
    try:
        train, test = build(kept, train=True), build(kept, train=False)
    except (OSError, RuntimeError, AssertionError, ValueError) as error:
        raise UserError(f"{kept} is damaged; delete it to download it again, or {advice}") from error
    splits = (_in_memory(name, part.data, part.targets) for part in (train, test))
    return Source(f"torchvision's download of {name}", list(train.classes), *splits)


def _in_memory(name: str, pixels: ArrayLike, labels: ArrayLike) -> Split:
    pixels = np.asarray(pixels)

    def encoded() -> Iterator[tuple[str, Encoded]]:
        return ((f"{name}, image {number}", image) for number, image in enumerate(pixels))

    return Split(np.asarray(labels, dtype=np.int64), encoded)
