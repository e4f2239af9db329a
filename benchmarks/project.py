"""A project folder of its own, with random images, in which the pipeline runs as it does in any other."""

import os
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from fedmpq.engine.training import ARRAYS, Cell

from fedmpq.config import Parameters, load_parameters
from fedmpq.data.dirichlet import draw_partition
from fedmpq.files import write_json
from fedmpq.seeding import numpy_generator
from fedmpq.tracking import connection
from pipeline import command

NAME, ALPHA, CLASSES = "bench", 0.5, 10
MEAN, STD = 0.5, 0.29
BUDGETS = [2, 2, 4, 4, 4, 6, 6, 6, 8, 8]
FEDMPQ = {"aggregation": "weights", "lambda": 0.1, "epsilon": 0.025, "min_bits": 1}
SETTINGS = {
    "data": NAME,
    "image_size": None,
    "train_samples": None,
    "validation": 0.1,
    "flip": False,
    "crop_padding": 0,
    "min_samples": 1,
    "max_redraws": 1000,
    "activation_bits": 4,
    "quantizer": "full-range",
    "seeds": [0],
    "participation": 1.0,
    "min_answers": 1,
    "max_repeats": 0,
    "dropout": 0.0,
    "deadline": None,
    "images_per_second": 100.0,
    "bandwidth": 1e6,
    "speed_spread": 0.5,
    "averaging": "samples",
    "local_epochs": 1,
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "precision": "auto",
    "evaluate_quantized": False,
    "fp32": {"aggregation": "weights"},
    "fedmpq": FEDMPQ,
}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    model: str = "resnet20"
    image_size: int = 32
    batch: int = 64
    clients: int = 10
    many_clients: int = 1000
    images: int = 640
    """Training images of a client."""
    test_images: int = 1000
    rounds: int = 6
    """Of which the first, in which workers start, does not count."""
    steps: int = 60
    repeats: int = 5
    """Of what takes seconds."""
    short_repeats: int = 100
    """Of what takes less than a millisecond."""


QUICK = Scale("resnet8", 8, 4, 2, 4, 8, 8, rounds=2, steps=3, repeats=1, short_repeats=3)
"""To see that everything works; its numbers mean nothing."""


def settings(scale: Scale, clients: int | None = None, **changes: Any) -> dict[str, Any]:
    """The section of params.yaml; `clients` and other keys replace what the scale says."""
    clients = clients or scale.clients
    budgets = [BUDGETS[client % len(BUDGETS)] for client in range(clients)]
    sized = {"model": scale.model, "batch_size": scale.batch, "rounds": scale.rounds}
    return {**SETTINGS, **sized, "clients": clients, "budgets": budgets, **changes}


class Workspace:
    """A temporary folder in which projects are made."""

    def __init__(self, folder: Path, scale: Scale):
        self.folder, self.scale = folder, scale

    @cached_property
    def database(self) -> Path:
        """An empty database of MLflow, made once since it takes seconds."""
        connection.connect(self.folder).client.search_experiments()
        return self.folder / "mlflow.db"

    def project(self, name: str, **changes: Any) -> "Project":
        """A new project in the folder `name`; for `changes` see `Project`."""
        root = self.folder / name
        root.mkdir()
        shutil.copy(self.database, root)
        return Project(root, self.scale, **changes)


class Project:
    """The folder, ready to train."""

    def __init__(self, root: Path, scale: Scale, alike: bool = False, images: int | None = None, **changes: Any):
        """Write parameters, images and partition below `root`, which is there.

        Args:
            root: of the project.
            scale: how much of all.
            alike: all clients hold as many images; else they are divided at alpha 0.5.
            images: training images of a client on average; None: as the scale says.
            changes: of `settings`.
        """
        self.root = root
        section = settings(scale, **changes)
        lists = {"experiments": [NAME], "algorithms": ["fp32", "fedmpq"], "alphas": [ALPHA]}
        write_json(root / "params.yaml", {**lists, NAME: section})  # JSON is YAML
        labels = self._write_images(scale, section["clients"] * (images or scale.images))
        partition = draw_partition(labels, section["clients"], 1e9 if alike else ALPHA, 0, max_redraws=1000)
        partition.save(self.cell("fp32").partition_file(0))
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(command.ROOT / "pipeline", root / "pipeline", ignore=ignored)

    def _write_images(self, scale: Scale, train: int) -> np.ndarray:
        folder = self.root / "data" / "prepared" / NAME
        folder.mkdir(parents=True)
        generator, side = numpy_generator("benchmark"), scale.image_size
        sizes = {"train": train, "test": scale.test_images}
        for part, count in sizes.items():
            np.save(folder / f"{part}_images.npy", generator.integers(0, 256, (count, side, side, 3), np.uint8))
            np.save(folder / f"{part}_labels.npy", np.arange(count) % CLASSES)
        meta = {"data": NAME, "classes": [str(label) for label in range(CLASSES)], "image_size": side}
        write_json(folder / "meta.json", {**meta, "mean": [MEAN] * 3, "std": [STD] * 3, **sizes, "source": "random"})
        return np.load(folder / ARRAYS[1])

    @property
    def parameters(self) -> Parameters:
        """What params.yaml says."""
        return load_parameters(self.root / "params.yaml")

    def cell(self, algorithm: str) -> Cell:
        """The cell of the matrix that `algorithm` stands in."""
        return Cell.of(self.root, self.parameters, NAME, algorithm, ALPHA)

    def training(self, algorithm: str) -> list[str]:
        """The command that trains, to be run in `root` with `environment`."""
        options = ["--experiment", NAME, "--algorithm", algorithm, "--alpha", str(ALPHA), "--overwrite"]
        return [sys.executable, "-m", "pipeline.train", *options]

    def environment(self, **more: str) -> dict[str, str]:
        """Of a process that works here."""
        return {**os.environ, "PYTHONPATH": str(command.ROOT / "src"), **more}
