"""Parquet files in Hugging Face's layout: rows of an image struct {bytes, path} and an integer label."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedmpq.data.splits import Encoded, Source, Split
from fedmpq.errors import UserError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
TEST_NAMES = ("test", "validation", "valid", "val")
ROWS_AT_A_TIME = 64


def parquet_source(folder: Path, description: str) -> Source:
    """The data set in the files `train-*.parquet` and `test-*.parquet` of `folder`.

    Where there is no `test`, `validation`, `valid` or `val` serves. Classes are named by the files'
    Hugging Face metadata, or else by number.

    Raises:
        UserError: files or columns are missing or damaged, or labels are no labels.
    """
    train_files = _files(folder, "train")
    test_files = next((found for name in TEST_NAMES if (found := _files(folder, name))), [])
    if not train_files or not test_files:
        names = ", ".join(sorted(path.name for path in folder.glob("*.parquet")))
        missing = "test-*.parquet (or validation-*.parquet)" if train_files else "train-*.parquet"
        raise UserError(f"{folder} holds no {missing}, only {names}; add it")
    for path in test_files:
        if path.resolve() in {other.resolve() for other in train_files}:
            raise UserError(f"{path} is one of the training files; the test images must be others")
    classes = _class_names(train_files[0])
    train_labels = _labels(train_files, classes)
    classes = classes or [str(number) for number in range(train_labels.max() + 1)]
    return Source(
        f"parquet files in {description}",
        classes,
        Split(train_labels, lambda: _images(train_files)),
        Split(_labels(test_files, classes), lambda: _images(test_files)),
    )


def _files(folder: Path, split: str) -> list[Path]:
    """The files of a split in order; all shards that `-00000-of-00002` speaks of must be there."""
    paths = sorted(path for path in folder.glob("*.parquet") if re.match(rf"{split}[-.]", path.name))
    shards = [found.groups() for path in paths if (found := re.search(r"-(\d+)-of-(\d+)", path.name))]
    present = {int(number) for number, _ in shards}
    for total in sorted({total for _, total in shards}):
        if missing := set(range(int(total))) - present:
            raise UserError(f"{folder} lacks {split}-{min(missing):05}-of-{total}.parquet; add it")
    return paths


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no whole parquet file ({reason}); download it again") from error


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    # Streamed: otherwise a whole row group, often the whole file, comes into memory.
    with _readable(path), pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        yield file


def _column(file: pq.ParquetFile, path: Path, allowed: tuple[str, ...]) -> str:
    names = file.schema_arrow.names
    for name in allowed:
        if name in names:
            return name
    raise UserError(f"{path} has no column {' or '.join(allowed)}, only {', '.join(names)}; rename the right one")


def _class_names(path: Path) -> list[str] | None:
    """Names of the classes from the metadata that the library `datasets` writes; None where it did not."""
    with _opened(path) as file:
        column = _column(file, path, LABEL_COLUMNS)
        try:
            features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
            return [str(name) for name in features[column]["names"]] or None
        except (TypeError, KeyError, ValueError):
            return None


def _labels(files: list[Path], classes: list[str] | None) -> NDArray[np.int64]:
    labels = np.concatenate([_file_labels(path, classes) for path in files])
    if not len(labels):
        raise UserError(f"{', '.join(map(str, files))}: there are no rows; at least one image is needed")
    return labels


def _file_labels(path: Path, classes: list[str] | None) -> NDArray[np.int64]:
    with _opened(path) as file:
        name = _column(file, path, LABEL_COLUMNS)
        column = file.read(columns=[name]).column(name)
    if not pa.types.is_integer(column.type):
        raise UserError(f"{path}: the labels in {name} are {column.type}; they must be integers from 0")
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise UserError(f"{path}, row {row} (from 0): the image has no label; give it one or remove the row")
    labels = column.to_numpy().astype(np.int64)
    limit = len(classes) if classes else np.iinfo(np.int64).max
    wrong = np.flatnonzero((labels < 0) | (labels >= limit))
    if len(wrong):
        allowed = f"0 to {limit - 1}, as in the training set" if classes else "integers from 0"
        raise UserError(f"{path}, row {wrong[0]} (from 0): label {labels[wrong[0]]} is not allowed; allowed: {allowed}")
    return labels


def _images(files: list[Path]) -> Iterator[tuple[str, Encoded]]:
    for path in files:
        with _opened(path) as file:
            name = _column(file, path, IMAGE_COLUMNS)
            kind = file.schema_arrow.field(name).type
            if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                raise UserError(f"{path}: column {name} is {kind}; it must be a struct of bytes and path")
            row = 0
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=[f"{name}.bytes"]):
                for image in batch.column(0).to_pylist():
                    place = f"{path}, row {row} (from 0)"
                    if not (image and image["bytes"]):
                        raise UserError(f"{place}: there is a label but no image; add it or remove the row")
                    yield place, image["bytes"]
                    row += 1
