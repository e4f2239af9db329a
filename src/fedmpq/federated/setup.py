"""What determines a run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedmpq.config import Experiment
from fedmpq.data.arrays import Dataset
from fedmpq.data.partition import Partition
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.algorithms import Algorithm, build_algorithm
from fedmpq.models import build_model


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
        return build_algorithm(self.algorithm_name, self.experiment.algorithm(self.algorithm_name))

    @cached_property
    def dataset(self) -> Dataset:
        """The prepared arrays, memory-mapped."""
        return Dataset.load(self.data)

    def build_model(self) -> tuple[nn.Module, ActivationQuantizer | None]:
        """The network with its initial weights, and the quantizer of its activations if it has one."""
        model = build_model(
            self.experiment.model.network, len(self.dataset.classes), self.dataset.image_size, self.seed
        )
        bits = self.experiment.model.activation_bits if self.algorithm.quantizes_activations else None
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
