"""Project folders with random images, in which the pipeline runs as it does in any other."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np

from benchmarks.measure import start
from fedmpq.config import Experiment, load_parameters
from fedmpq.engine.cell import Cell
from fedmpq.engine.inputs import RECORD, arrays_record
from fedmpq.files import write_json
from fedmpq.seeding import numpy_generator
from fedmpq.tracking import connection
from pipeline import command

NAME, CLASSES = "bench", 8


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    network: str = "resnet20"
    image_size: int = 32
    batch: int = 64
    clients: int = 10
    images: int = 640  # for training, of a client on average
    test_images: int = 1000
    rounds: int = 4  # of which the first, in which workers start, does not count
    steps: int = 12  # measured together
    repeats: int = 5  # of what takes seconds
    crowds: tuple[int, ...] = (10, 100, 1_000, 10_000)  # clients over which growth is measured
    executor: str = "processes"

    def experiment(self, changes: dict[str, Any] | None = None) -> Experiment:
        """`digits` of params.yaml at this scale, with `changes` by dotted key."""
        parameters = load_parameters(command.ROOT / "params.yaml")
        budgets = parameters.experiment("digits").model.budgets
        values = {
            "data.source": NAME,
            "data.image_size": None,
            "partition.clients": self.clients,
            "partition.min_samples": 1,
            "partition.seeds": [0],
            "model.network": self.network,
            "model.budgets": (budgets * self.clients)[: self.clients],
            "training.rounds": self.rounds,
            "training.batch_size": self.batch,
            "training.lr": 0.01,
        }
        return parameters.varied("digits", values | (changes or {}))


QUICK = Scale("resnet8", 8, 4, clients=2, images=8, test_images=8, rounds=2, steps=3, repeats=1, crowds=(10, 20))
"""To see that everything works; its numbers mean nothing."""


def make(root: Path, scale: Scale, algorithm: str, changes: dict[str, Any] | None = None, alike: bool = False) -> Cell:
    """Make the folder `root`, and return what is trained there; for `changes` see `Scale.experiment`.

    If clients are `alike`, all hold equally many images (a multiple of CLASSES), else these are divided at alpha 0.5.
    Beside `root` an empty database of MLflow is made, once since it takes seconds, to be copied.
    """
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # It would lead trainings away from their folder.
    shutil.copytree(command.ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    connection.connect(root.parent).client.search_experiments()
    shutil.copy(root.parent / "mlflow.db", root)
    (root / "src").symlink_to(command.ROOT / "src")
    alpha, experiment, data = 1e12 if alike else 0.5, scale.experiment(changes), root / "data" / "prepared" / NAME
    lists = {"experiments": [NAME], "algorithms": [algorithm], "alphas": [alpha]}
    execution = {"executor": scale.executor}
    write_json(root / "params.yaml", {**lists, "execution": execution, NAME: experiment.tree()})
    _write_images(data, scale)
    write_json(data / RECORD, arrays_record(experiment.data))
    return Cell.of(root, load_parameters(root / "params.yaml"), NAME, algorithm, alpha)


def _write_images(folder: Path, scale: Scale) -> None:
    folder.mkdir(parents=True)
    generator, side = numpy_generator("benchmark"), scale.image_size
    sizes = {"test": scale.test_images, "train": scale.clients * scale.images}
    for part, count in sizes.items():
        np.save(folder / f"{part}_images.npy", generator.integers(0, 256, (count, side, side, 3), np.uint8))
        np.save(folder / f"{part}_labels.npy", np.arange(count) % CLASSES)
    meta = {"data": NAME, "classes": [str(label) for label in range(CLASSES)], "image_size": side, "source": "random"}
    write_json(folder / "meta.json", {**meta, "mean": [0.5] * 3, "std": [0.29] * 3, **sizes})


def train(cell: Cell) -> Popen:
    """Start the training of `cell`."""
    options = f"--experiment {cell.name} --algorithm {cell.algorithm} --alpha {cell.alpha} --overwrite"
    return start([sys.executable, "-m", "pipeline.train", *options.split()], cell.root)
