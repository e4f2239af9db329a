"""What a training reads: prepared arrays and partitions, each with a record of what it was made with.

The stages of the pipeline make them for what params.yaml says. For anything else (an override by hand, another alpha)
they are made in a place of their own, so that a training never reads others than it records.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
    """Folder of the prepared arrays of experiment `name`; raises UserError where they cannot be made."""
    stage, raw = root / "data/prepared" / name, above_raw(root, data.source) / "raw" / data.source
    return _found(stage, root, arrays_record(data), lambda to: make_arrays(root, data, to), raw)


def partitions(root: Path, name: str, experiment: Experiment, alpha: float, label: str, data: Path) -> Path:
    """Folder of the partitions of all seeds of experiment `name`, whose arrays are in `data`.

    `label` is that of alpha in names of folders. Raises UserError where they cannot be drawn.
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
    """Draw seed-<seed>.npz for each seed, with counts.csv, into `folder`, which is made; for the rest see `partitions`.

    Unless `enforce`, a client may be left with fewer images than it must have.

    Returns:
        The number of classes that make up 90 % of a client's images, median over clients and seeds.
    """
    settings, dataset, counts = experiment.partition, Dataset.load(data), {}
    labels, least = dataset.train_labels, settings.min_samples if enforce else 0
    for seed in settings.seeds:
        samples = training_samples(labels, experiment.data.train_samples, seed)
        drawn = {"min_samples": least, "max_redraws": settings.max_redraws, "samples": samples}
        partition = draw_partition(labels, settings.clients, alpha, seed, **drawn)
        partition.save(folder / f"seed-{seed}.npz")
        counts[seed] = pd.DataFrame(partition.counts(labels, len(dataset.classes))).add_prefix("label_")
    pd.concat(counts, names=["seed", "client"]).to_csv(folder / "counts.csv", lineterminator="\n")
    write_json(folder / RECORD, _partition_record(experiment, alpha, data) | {"enforced": enforce})
    return float(np.median([typical_classes(found.to_numpy()) for found in counts.values()]))


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
    files = sorted(raw.rglob("*")) if raw else []
    states = [(file.as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    own = root / "checkpoints" / "inputs" / fingerprint({**record, "code": sha256(*CODE), "raw": states})[:16]
    with exclusive(own.with_suffix(".lock"), f"{own}", wait=True):  # Of several trainings that need it one makes it.
        if not _fits(own / RECORD, record):
            print(f"{stage.relative_to(root)} is not of these parameters: making {own.relative_to(root)}", flush=True)
            with replacing(own) as temporary:
                make(temporary)
    return own


def _fits(path: Path, wanted: Record) -> bool:
    """Whether the record at `path` says what is wanted; more seeds do no harm."""
    try:
        found = json.loads(path.read_text())
        more_seeds = set(wanted.get("seeds", ())) <= set(found.get("seeds", ()))
    except (OSError, ValueError, TypeError, AttributeError):
        return False
    return more_seeds and {**found, "seeds": None} == {**wanted, "seeds": None}
