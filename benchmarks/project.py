"""Project folders with random images, in which the pipeline runs as it does in any other."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.measure import start
from fedmpq.config import Experiment, load_parameters
from fedmpq.engine.cell import Cell
from fedmpq.engine.inputs import RECORD, arrays_record
from fedmpq.files import write_json
from fedmpq.seeding import numpy_generator
from fedmpq.tracking import connection
from pipeline import command

NAME, ALPHA, CLASSES = "bench", 0.5, 10
FOREIGN = ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME")
"""Variables that would lead trainings away from their folder."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    network: str = "resnet20"
    image_size: int = 32
    batch: int = 64
    clients: int = 10
    images: int = 640
    """Training images of a client on average."""
    test_images: int = 1000
    rounds: int = 6
    """Of which the first, in which workers start, does not count."""
    steps: int = 12
    """Measured together."""
    repeats: int = 5
    """Of what takes seconds."""

    def experiment(self, changes: dict[str, Any] | None = None) -> Experiment:
        """The `defaults` of params.yaml at this scale, with `changes` by dotted key."""
        path = command.ROOT / "params.yaml"
        defaults = YAML(typ="safe", pure=True).load(path)["defaults"]
        values = {
            "data.source": NAME,
            "partition.clients": self.clients,
            "partition.min_samples": 1,
            "partition.seeds": [0],
            "model.network": self.network,
            "model.budgets": (defaults["model"]["budgets"] * self.clients)[: self.clients],
            "training.rounds": self.rounds,
            "training.local_epochs": 1,
            "training.batch_size": self.batch,
            "training.lr": 0.01,
            **(changes or {}),
        }
        overrides = {NAME: defaults} | {f"{NAME}.{key}": value for key, value in values.items()}
        return load_parameters(path, overrides).experiment(NAME)


QUICK = Scale("resnet8", 8, 4, clients=2, images=8, test_images=8, rounds=2, steps=3, repeats=1)
"""To see that everything works; its numbers mean nothing."""


def make(root: Path, scale: Scale, algorithm: str, changes: dict[str, Any] | None = None, alike: bool = False) -> Cell:
    """Make the folder `root`, and return what is trained there; for `changes` see `Scale.experiment`.

    If clients are `alike`, all hold as many images; else these are divided at alpha 0.5. Beside `root` an empty
    database of MLflow is made, once since it takes seconds, to be copied.
    """
    for name in FOREIGN:
        os.environ.pop(name, None)
    shutil.copytree(command.ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    connection.connect(root.parent).client.search_experiments()
    shutil.copy(root.parent / "mlflow.db", root)
    (root / "src").symlink_to(command.ROOT / "src")
    alpha, experiment, parameters = 1e9 if alike else ALPHA, scale.experiment(changes), root / "params.yaml"
    lists = {"experiments": [NAME], "algorithms": [algorithm], "alphas": [alpha]}
    write_json(parameters, {**lists, NAME: experiment.tree()})
    write_images(root / "data" / "prepared" / NAME, scale)
    write_json(root / "data" / "prepared" / NAME / RECORD, arrays_record(experiment.data))
    return Cell.of(root, load_parameters(parameters), NAME, algorithm, alpha)


def write_images(folder: Path, scale: Scale) -> None:
    """Write random images as stage `prepare` does."""
    folder.mkdir(parents=True)
    generator, side = numpy_generator("benchmark"), scale.image_size
    sizes = {"test": scale.test_images, "train": scale.clients * scale.images}
    for part, count in sizes.items():
        labels = np.arange(count) % CLASSES
        np.save(folder / f"{part}_images.npy", generator.integers(0, 256, (count, side, side, 3), np.uint8))
        np.save(folder / f"{part}_labels.npy", labels)
    meta = {"data": NAME, "classes": [str(label) for label in range(CLASSES)], "image_size": side, "source": "random"}
    write_json(folder / "meta.json", {**meta, "mean": [0.5] * 3, "std": [0.29] * 3, **sizes})


def train(cell: Cell) -> Popen:
    """Start the training of `cell`."""
    options = f"--experiment {cell.name} --algorithm {cell.algorithm} --alpha {cell.alpha} --overwrite"
    return start([sys.executable, "-m", "pipeline.train", *options.split()], cell.root)
