"""Data sets that Hugging Face's library `datasets` reads: parquet files and its other layouts, and its Hub.

The library is imported where it is used: it takes a second, and takes its settings from the environment then.
"""

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedmpq.data.tables import Tables
from fedmpq.errors import UserError
from fedmpq.files import replacing

if TYPE_CHECKING:
    from datasets import DatasetBuilder

PATIENCE = 15
"""Seconds in which the Hub must answer."""
Place = Callable[[int], str]


def read_files(folder: Path, name: str, downloads: Path, advice: str) -> Tables:
    """The data set in the files of `folder`, e.g. train-*.parquet and test-*.parquet.

    Raises:
        UserError: files are missing or damaged (the message ends with `advice` where the library cannot read them).
    """
    folder = folder.resolve()
    if re.search(r"[*?[]|::", str(folder)):
        raise UserError(f"{folder}: a path with * ? [ or :: would be read as a pattern; move the data or the project")
    datasets = _library(downloads)
    with _explained(f"{folder} cannot be read", advice), _temporary(downloads) as cache:
        builder, files = _builder(datasets, str(folder), cache)
        tables = {part: paths for part, paths in files.items() if paths[0].suffix == ".parquet"}
        places = {part: _place(folder, part, paths) for part, paths in tables.items()}
        builder.download_and_prepare()
        parts = builder.as_dataset()  # memory-mapped: outlives its files, and nothing stays that could go stale
    return Tables(f"{builder.info.builder_name} files in {name}", parts, folder, places)


def read_hub(name: str, downloads: Path, advice: str) -> Tables:
    """The data set `name` (owner/name) of the Hugging Face Hub, downloaded into `downloads`/`name` the first time.

    Raises:
        UserError: it cannot be downloaded (the message ends with `advice`).
    """
    kept = downloads / name
    datasets = _library(downloads)
    if not kept.is_dir():
        with _explained(f"cannot download {name} from the Hugging Face Hub", advice), _temporary(downloads) as cache:
            _await_hub()
            builder, _ = _builder(datasets, f"hf://datasets/{name}", cache)
            builder.download_and_prepare()
            with replacing(kept) as temporary:
                builder.as_dataset().save_to_disk(temporary)
    with _explained(f"{kept} is damaged", "delete it to download it again"):
        parts = datasets.load_from_disk(kept)
    return Tables(f"{name} of the Hugging Face Hub", parts, kept, {})


def _library(downloads: Path) -> ModuleType:
    """The library, which keeps what it stores below `downloads`, reports to nobody, and is silent."""
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

    return datasets


def _temporary(downloads: Path) -> "TemporaryDirectory[str]":
    downloads.mkdir(parents=True, exist_ok=True)
    return TemporaryDirectory(prefix=".reading-", dir=downloads, ignore_cleanup_errors=True)


@contextmanager
def _explained(problem: str, advice: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the library and its network client raise nearly anything
        cause = error.__cause__ if type(error).__name__ == "DatasetGenerationError" else error
        reason = textwrap.shorten(str(cause) or type(cause).__name__, 400, placeholder=" ...")
        raise UserError(f"{problem} ({reason}); {advice}") from error


def _await_hub() -> None:
    """Raise what the network client says, or TimeoutError, if the Hub gives no answer within `PATIENCE`.

    The client's own attempts go on for minutes. Asked in a thread, since neither name servers nor a list of
    addresses to try keep to a time limit.
    """
    from huggingface_hub import constants, get_session

    answer: Future[None] = Future()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT)
            answer.set_result(None)
        except Exception as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer.result(PATIENCE)
    except TimeoutError:
        raise TimeoutError(f"no answer within {PATIENCE} seconds") from None


def _builder(datasets: ModuleType, path: str, cache: str) -> tuple["DatasetBuilder", dict[str, list[Path]]]:
    """What reads the data set at `path`, and the files of its parts, none of which is in two of them."""
    builder = datasets.load_dataset_builder(path, cache_dir=cache)
    files = {part: [Path(file) for file in found] for part, found in builder.config.data_files.items()}
    training = {file.resolve() for file in files.get("train", ())}
    for part, found in files.items():
        if part != "train" and (twice := training & {file.resolve() for file in found}):
            raise UserError(f"{min(twice)} is for training and in part {part} too; the test images must be others")
    return builder, files


def _place(folder: Path, part: str, files: list[Path]) -> Place:
    if len(parents := sorted({str(path.parent) for path in files})) > 1:
        raise UserError(f"{folder} holds several data sets ({', '.join(parents)}); leave one")
    shards = [tuple(map(int, found)) for path in files for found in re.findall(r"-(\d+)-of-(\d+)", path.name)]
    if missing := {number for _, total in shards for number in range(total)} - {number for number, _ in shards}:
        raise UserError(f"{folder} lacks {part}-{min(missing):05}-of-{shards[0][1]:05}.parquet; add it")
    ends = np.cumsum([_rows(path) for path in files])

    def place(number: int) -> str:
        file = int(np.searchsorted(ends, number, side="right"))
        return f"{files[file]}, row {number - (ends[file - 1] if file else 0)} (from 0)"

    return place


def _rows(path: Path) -> int:
    """How many rows the parquet file `path` has, all of which can be read."""
    try:
        # Streamed: otherwise a whole row group, often the whole file, comes into memory.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            count = sum(batch.num_rows for batch in file.iter_batches(64))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no whole parquet file ({reason}); download it again") from error
    if not count:
        raise UserError(f"{path}: there are no rows; add some or remove the file")
    return count
