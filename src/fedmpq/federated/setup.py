"""What determines a run, and the two tasks into which its work is divided."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedmpq.config import Experiment
from fedmpq.data.arrays import Dataset
from fedmpq.data.partition import Partition
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.algorithms import ALGORITHMS, Algorithm
from fedmpq.models import build_model

if TYPE_CHECKING:
    from fedmpq.federated.worker import Worker

EVALUATION_CHUNK = 1000
"""Images that one evaluation task takes: fixed, so that sums do not depend on the workers."""


@dataclass(frozen=True)
class Setup:
    """Everything that determines a run; small enough to be sent to every worker."""

    experiment: Experiment
    algorithm_name: str
    seed: int
    data: Path
    """Folder of the prepared arrays."""
    partition: Partition
    device: torch.device
    precision: str
    """float32 | bfloat16"""
    held_out: NDArray[np.int64] | None = None
    """Evaluate on these training images; None: on the test set."""

    @cached_property
    def algorithm(self) -> Algorithm:
        """The algorithm of this run."""
        return ALGORITHMS[self.algorithm_name](self.experiment.algorithm(self.algorithm_name))

    @cached_property
    def dataset(self) -> Dataset:
        """The prepared arrays, memory-mapped."""
        return Dataset.load(self.data)

    def build_model(self) -> tuple[nn.Module, ActivationQuantizer | None]:
        """The network with its initial weights, and the quantizer of its activations if it has one."""
        model = build_model(self.experiment.model, len(self.dataset.classes), self.dataset.image_size, self.seed)
        bits = self.experiment.activation_bits if self.algorithm.quantizes_activations else None
        return model, ActivationQuantizer(model, bits) if bits else None

    @property
    def evaluation_images(self) -> tuple[str, NDArray[np.int64]]:
        """The images that accuracy is measured on: `train` or `test`, and their indices there."""
        if self.held_out is not None:
            return "train", self.held_out
        return "test", np.arange(len(self.dataset.test_labels))

    def __getstate__(self) -> dict:
        # Memory maps are opened anew by each process: pickled, they would travel as whole arrays.
        return {key: value for key, value in self.__dict__.items() if key not in ("algorithm", "dataset")}


@dataclass(frozen=True)
class TrainTask:
    """Train one client for a round."""

    round: int
    client: int
    downlink: bytes
    """The encoded model that it starts from."""
    cost: int
    """Images to process, by which tasks are ordered."""

    def run(self, worker: "Worker") -> bytes:
        """The encoded answer."""
        return worker.train(self)


@dataclass(frozen=True)
class EvaluateTask:
    """Evaluate a model on one chunk of the evaluation images."""

    round: int
    model: bytes
    start: int
    quantized_activations: bool
    cost: int = 0

    def run(self, worker: "Worker") -> tuple[int, float]:
        """Correct predictions and sum of the losses."""
        return worker.evaluate(self)


Task = TrainTask | EvaluateTask


class TaskFailed(Exception):
    """A client could not give an answer; the text is its reason."""
