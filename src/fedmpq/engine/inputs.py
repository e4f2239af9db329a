"""What a training reads: prepared arrays and partitions, each with a record of what it was made with.

The stages of the pipeline make them for what params.yaml says. For anything else (an override by hand, another alpha)
they are made in a place of their own, so that a training never reads others than it records.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedmpq.config import DataSettings, Experiment
from fedmpq.data.arrays import Dataset
from fedmpq.data.dirichlet import draw_partition, training_samples, typical_classes
from fedmpq.data.prepare import prepare
from fedmpq.data.sources import above_raw, open_source
from fedmpq.engine.checkpoint import fingerprint
from fedmpq.files import exclusive, replacing, sha256, write_json

Record = dict[str, Any]
RECORD = "made-with.json"
PACKAGE = Path(__file__).parents[1]
CODE = (*sorted((PACKAGE / "data").glob("*.py")), PACKAGE / "seeding.py", Path(__file__))
"""The files that determine what is made."""


def arrays(root: Path, name: str, data: DataSettings) -> Path:
    """Folder of the prepared arrays of experiment `name`.

    Raises:
        UserError: they are not there and cannot be made: see `open_source` and `prepare`.
    """
    stage, raw = root / "data/prepared" / name, above_raw(root, data.source) / "raw" / data.source
    return _found(stage, root, arrays_record(data), lambda to: make_arrays(root, data, to), raw)


def partitions(root: Path, name: str, experiment: Experiment, alpha: float, label: str, data: Path) -> Path:
    """Folder of the partitions of all seeds of experiment `name`, whose arrays are in `data`.

    Args:
        root: of the project.
        name: of the experiment.
        experiment: says clients, seeds and samples.
        alpha: Dirichlet concentration.
        label: of alpha, in names of folders.
        data: see `arrays`.

    Raises:
        UserError: they are not there and cannot be drawn: see `draw_partition`.
    """
    stage, record = root / "data/partitions" / name / f"alpha-{label}", _partition_record(experiment, alpha, data)
    return _found(stage, root, record, lambda to: make_partitions(experiment, alpha, data, to))


def make_arrays(root: Path, data: DataSettings, folder: Path) -> str:
    """Decode the images of `data` into `folder`; returns a line on what they are."""
    above = above_raw(root, data.source)
    source = open_source(data.source, above / "raw", above / "downloads", data.image_column, data.label_column)
    prepare(data.source, source, data.image_size, folder)
    write_json(folder / RECORD, arrays_record(data))
    sizes = f"{len(source.train.labels)} training and {len(source.test.labels)} test images"
    return f"{sizes} of {len(source.classes)} classes, from {source.description}"


def make_partitions(experiment: Experiment, alpha: float, data: Path, folder: Path, enforce: bool = True) -> float:
    """Draw seed-<seed>.npz for each seed, with counts.csv, into `folder`.

    Args:
        experiment: says clients, seeds and samples.
        alpha: Dirichlet concentration.
        data: folder of the arrays.
        folder: is made.
        enforce: draw again while a client has fewer images than it must have.

    Returns:
        The number of classes that make up 90 % of a client's images, median over clients and seeds.
    """
    settings, dataset, typical = experiment.partition, Dataset.load(data), []
    labels, classes = dataset.train_labels, len(dataset.classes)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "counts.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["seed", "client", *(f"label_{label}" for label in range(classes))])
        for seed in settings.seeds:
            partition = draw_partition(
                labels,
                settings.clients,
                alpha,
                seed,
                min_samples=settings.min_samples if enforce else 0,
                max_redraws=settings.max_redraws,
                samples=training_samples(labels, experiment.data.train_samples, seed),
            )
            partition.save(folder / f"seed-{seed}.npz")
            counts = partition.counts(labels, classes)
            table.writerows([seed, client, *row] for client, row in enumerate(counts.tolist()))
            typical.append(typical_classes(counts))
    write_json(folder / RECORD, _partition_record(experiment, alpha, data) | {"enforced": enforce})
    return float(np.median(typical))


def arrays_record(data: DataSettings) -> Record:
    """What prepared arrays are made with."""
    return data.model_dump(include={"source", "image_column", "label_column", "image_size"})


def _partition_record(experiment: Experiment, alpha: float, data: Path) -> Record:
    drawn = experiment.partition.model_dump() | {"train_samples": experiment.data.train_samples, "alpha": alpha}
    return drawn | {"enforced": True, "labels": sha256(data / "train_labels.npy")}


def _found(stage: Path, root: Path, record: Record, make: Callable[[Path], Any], raw: Path | None = None) -> Path:
    """The folder that was made with `record`: the stage's, or another one, made now if it is not there.

    DVC sees to it that the stage's is of the present code and raw files; the other one is named after them.
    """
    if _fits(stage / RECORD, record):
        return stage
    origin = {"code": sha256(*CODE), "raw": _listing(raw) if raw else None}
    own = root / "checkpoints" / "inputs" / fingerprint(record | origin)[:16]
    with exclusive(own.with_suffix(".lock"), f"{own}", wait=True):  # Of several trainings that need it one makes it.
        if not _fits(own / RECORD, record):
            print(f"{stage.relative_to(root)} is not of these parameters: making {own.relative_to(root)}", flush=True)
            with replacing(own) as temporary:
                make(temporary)
    return own


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of each file below `folder`, which need not be there."""
    files = [(file.as_posix(), file.stat()) for file in sorted(folder.rglob("*")) if file.is_file()]
    return [(name, about.st_size, about.st_mtime_ns) for name, about in files]


def _fits(path: Path, wanted: Record) -> bool:
    """Whether the record at `path` says what is wanted; more seeds do no harm."""
    try:
        found = json.loads(path.read_text())
        more_seeds = set(wanted.get("seeds", ())) <= set(found.get("seeds", ()))
    except (OSError, ValueError, TypeError, AttributeError):
        return False
    return more_seeds and {**found, "seeds": None} == {**wanted, "seeds": None}
