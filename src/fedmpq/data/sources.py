"""Find a data set by its name: files of the user's own, scikit-learn's digits, or the Hugging Face Hub."""

import os
import sys
from pathlib import Path

import numpy as np

from fedmpq.data.folder import is_image_folder, read_folder
from fedmpq.data.huggingface import read_files, read_hub
from fedmpq.data.splits import Source, Split
from fedmpq.data.tables import Tables
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

    The test images are those of the part `test`, else `validation` (`valid`, `val`), else a fifth of the
    training images; the description says which where it is not `test`.

    Args:
        source: "digits", a short name in `HUB`, owner/name on the Hub, or any folder below `raw`.
        raw: where the user's own data sets are, each a folder of parquet files or an image folder (either
            may lie one folder deeper), or in another layout that Hugging Face's `datasets` reads.
        downloads: where downloads are kept.
        image_column, label_column: of tables; None: the only one of its type, or one of a usual name.

    Raises:
        UserError: there is no such data set (the message says what to put where), or it is damaged.
    """
    found = _find(source, raw, downloads)
    if isinstance(found, Tables):
        found = found.source(image_column, label_column)
    elif image_column or label_column:
        idle = "image_column" if image_column else "label_column"
        raise UserError(f"{found.description} is no table; allowed for {idle}: null")
    present = set(found.train.labels.tolist())
    if unused := [name for label, name in enumerate(found.classes) if label not in present]:
        names = ", ".join(unused[:5]) + (" ..." if unused[5:] else "")
        print(f"warning: {found.description}: no training image is of class {names}", file=sys.stderr)
    return found


def _find(source: str, raw: Path, downloads: Path) -> Source | Tables:
    folder, name = raw / source, f"data/raw/{source}"
    visible = [path for path in folder.glob("*") if not path.name.startswith((".", "__MACOSX"))]
    inside = sorted(path for path in visible if path.is_dir())
    images = [path for path in (folder, *inside) if is_image_folder(path)]
    if len(images) + any(folder.glob("*.parquet")) > 1:
        raise UserError(f"{folder} holds several data sets, also in {images[-1]}; leave one")
    if images:
        return read_folder(images[0], f"image folder {name}")
    if visible:
        return read_files(folder, name, downloads, f"put there {LAYOUT}")
    if source == "digits":
        return _digits()
    if source not in HUB and source.count("/") != 1:
        built_in = ", ".join(["digits", *HUB])
        raise UserError(
            f"no data set {source!r}: put {LAYOUT} in {folder}/, or use {built_in}, or owner/name on the Hub"
        )
    return read_hub(HUB.get(source, source), downloads, f"put {LAYOUT} in {folder}/ instead")


def _digits() -> Source:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, 0 .. 16."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    whole = Split(digits.target.astype(np.int64), pixels.__getitem__, "digits, image {}".format)
    return Source("scikit-learn's digits", [str(name) for name in digits.target_names], *whole.hold_out())
