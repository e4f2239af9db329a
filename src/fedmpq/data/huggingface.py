"""Data sets that Hugging Face's library `datasets` reads: parquet files and its other layouts, and its Hub.

The library is imported where it is used: it takes a second, and takes its settings from the environment then.
"""

import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedmpq.data.splits import PARTS, Encoded, Source, Split
from fedmpq.errors import UserError
from fedmpq.files import replacing

if TYPE_CHECKING:
    from datasets import Dataset

PATIENCE = 5
"""Seconds in which each address of the Hub must answer; the client itself would try again for minutes."""


def read_files(folder: Path, origin: str, downloads: Path, advice: str) -> "Tables":
    """The data set in the files of `folder`, e.g. train-*.parquet and test-*.parquet; `origin` says where that is.

    Raises:
        UserError: files are missing or damaged (the message ends with `advice` where the library cannot read them).
    """
    folder = folder.resolve()
    if re.search(r"[*?[]|::", str(folder)):
        raise UserError(f"{folder}: a path with * ? [ or :: would be read as a pattern; move the data or the project")
    with _library(downloads, f"{folder} cannot be read", advice) as (datasets, cache):
        builder = datasets.load_dataset_builder(str(folder), cache_dir=cache)
        for part, files in builder.config.data_files.items():
            _check(folder, part, [Path(file) for file in files if file.endswith(".parquet")])
        builder.download_and_prepare()
        parts = builder.as_dataset()  # memory-mapped: outlives its files, and nothing stays that could go stale
    return Tables(f"{builder.info.builder_name} files {origin}", parts, folder)


def read_hub(name: str, downloads: Path, advice: str) -> "Tables":
    """The data set `name` (owner/name) of the Hugging Face Hub, downloaded into `downloads`/`name` the first time.

    Raises:
        UserError: it cannot be downloaded (the message ends with `advice`).
    """
    kept = downloads / name
    if not kept.is_dir():
        with _library(downloads, f"cannot download {name} from the Hugging Face Hub", advice) as (_, cache):
            from huggingface_hub import constants, get_session, snapshot_download

            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            files = Path(snapshot_download(name, repo_type="dataset", local_dir=f"{cache}/files"))
            with replacing(kept) as temporary:
                files.rename(temporary)
    return read_files(kept, f"of {name} on the Hugging Face Hub", downloads, "delete it to download it again")


@contextmanager
def _library(downloads: Path, problem: str, advice: str) -> Iterator[tuple[ModuleType, str]]:
    """The library, which stores below `downloads` and reports to nobody, and a temporary folder there."""
    no_bars = str(int(not sys.stderr.isatty()))
    os.environ |= {
        "HF_HOME": str(downloads.absolute() / ".huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_HUB_VERBOSITY": "critical",
        "DATASETS_VERBOSITY": "critical",
        "HF_HUB_DISABLE_PROGRESS_BARS": no_bars,
        "HF_DATASETS_DISABLE_PROGRESS_BARS": no_bars,
    }
    import datasets

    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".reading-", dir=downloads, ignore_cleanup_errors=True) as cache:
            yield datasets, cache
    except UserError:
        raise
    except Exception as error:  # the library and its network client raise nearly anything
        cause = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else error
        reason = textwrap.shorten(str(cause) or type(cause).__name__, 400, placeholder=" ...")
        raise UserError(f"{problem} ({reason}); {advice}") from error


def _check(folder: Path, part: str, files: list[Path]) -> None:
    """That the parquet `files` of a part are of one data set, all there, and whole: the library does not name them."""
    if len(parents := sorted({str(path.parent) for path in files})) > 1:
        raise UserError(f"{folder} holds several data sets ({', '.join(parents)}); leave one")
    shards = [tuple(map(int, found)) for path in files for found in re.findall(r"-(\d+)-of-(\d+)", path.name)]
    if missing := {number for _, total in shards for number in range(total)} - {number for number, _ in shards}:
        raise UserError(f"{folder} lacks {part}-{min(missing):05}-of-{shards[0][1]:05}.parquet; add it")
    for path in files:
        try:
            rows = pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is no whole parquet file ({error}); download it again") from error
        if not rows:
            raise UserError(f"{path}: there are no rows; add some or remove the file")


@dataclass(frozen=True)
class Tables:
    """A data set as the library gives it."""

    description: str
    parts: "Mapping[str, Dataset]"
    root: Path
    """Images that are not in the tables themselves must be files below this folder."""

    def source(self, image_column: str | None, label_column: str | None) -> Source:
        """Training and test images; UserError where a part or a column is missing, or labels are no labels."""
        from datasets import ClassLabel, Image

        if "train" not in self.parts:
            raise UserError(f"{self.description}: there is no part train, only {', '.join(self.parts)}; add it")
        image = self._column("image", image_column, Image, ("img", "image"))
        label = self._column("label", label_column, ClassLabel, ("label", "fine_label"))
        used = [part for part in PARTS if part in self.parts][:2]
        splits = {part: self._split(part, image, label) for part in used}
        return Source.of(self.description, self._classes(label, splits["train"].labels), splits)

    def _column(self, what: str, given: str | None, kind: type, usual: tuple[str, ...]) -> str:
        """The column `given`, or the only one of its kind, or one of a usual name."""
        features = self.parts["train"].features
        typed = [name for name, feature in features.items() if isinstance(feature, kind)]
        for name in (given,) if given else (*(typed if len(typed) == 1 else ()), *usual):
            if name in features:
                return name
        problem = f"no column {given or ' or '.join(usual)}, only {', '.join(features)}"
        raise UserError(f"{self.description}: there is {problem}; set {what}_column to the right one")

    def _classes(self, column: str, labels: list[Any]) -> dict[Any, str]:
        """The labels that are allowed, in order, each with the name of its class."""
        feature = self.parts["train"].features[column]
        if names := getattr(feature, "names", None):
            return dict(enumerate(names))
        kind = str(getattr(feature, "dtype", feature))
        if not re.match(r"u?int|bool|(large_)?string", kind):
            raise UserError(f"{self.description}: the labels in {column} are {kind}; they must be integers or text")
        found = sorted(set(labels) - {None})
        if "string" not in kind and (unused := set(range(len(found))).difference(found)):
            gap = f"labels go from {found[0]} to {found[-1]}, but no training image has label {min(unused)}"
            advice = f"number them 0 to {len(found) - 1}, or name the classes: labels as text, or datasets.ClassLabel"
            raise UserError(f"{self.description}, column {column}: {gap}; {advice}")
        return {label: str(label) for label in found}

    def _split(self, part: str, image: str, label: str) -> Split:
        from datasets import Image

        table = self.parts[part]
        try:
            cells = table.cast_column(image, Image(decode=False)).data.column(image)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise UserError(f"{self.description}: column {image} holds no images; set image_column") from error
        place = f"{self.description}, {part}, row {{}} (from 0)".format
        return Split(table.data.column(label).to_pylist(), lambda row: self._image(cells[row].as_py() or {}), place)

    def _image(self, cell: dict[str, Any]) -> Encoded:
        if cell.get("bytes"):
            return BytesIO(cell["bytes"])
        # A data set from elsewhere must not name other files of this machine.
        path = Path(os.path.normpath(cell.get("path") or "."))
        if path.is_relative_to(self.root):
            return path
        raise UserError("there is a label but no image; add it or remove the row")
