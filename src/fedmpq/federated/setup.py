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
from fedmpq.data.dirichlet import evaluation_samples
from fedmpq.data.partition import Partition
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.algorithms import Algorithm, build_algorithm
from fedmpq.federated.layout import Layout
from fedmpq.models import build_model
from fedmpq.quantization.codes import QUANTIZERS, Quantizer
from fedmpq.quantization.rounding import Coder, Nearest


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
        return build_algorithm(self.experiment.algorithm(self.algorithm_name), self.quantizer)

    @property
    def quantizer(self) -> Quantizer:
        """Of the weights that travel and of those that clients train."""
        return QUANTIZERS[self.experiment.quantizer(self.algorithm_name)]

    @property
    def coder(self) -> Coder:
        """How the server's models are rounded."""
        return Nearest(self.quantizer)

    def answer_coder(self, round: int, client: int) -> Coder:
        """How the answer of `client` in `round` is rounded."""
        return self.algorithm.coder(self.seed, "rounding", round, client)

    @cached_property
    def dataset(self) -> Dataset:
        """The prepared arrays, memory-mapped."""
        return Dataset.load(self.data)

    def build_model(self) -> tuple[nn.Module, Layout, ActivationQuantizer | None]:
        """The network with its initial weights, its layout, and the quantizer of its activations if it has one."""
        settings, data = self.experiment.model, self.dataset
        model = build_model(settings.network, len(data.classes), data.image_size, self.seed)
        bits = settings.activation_bits if self.algorithm.quantizes_activations else None
        activations = ActivationQuantizer(model, bits) if bits else None
        return model, Layout.of(model, settings.full_precision), activations

    @cached_property
    def evaluation_images(self) -> tuple[str, NDArray[np.int64]]:
        """The images that accuracy is measured on: `train` or `test`, and their indices there."""
        if self.held_out is not None:
            return "train", self.held_out
        return "test", evaluation_samples(self.dataset.test_labels, self.experiment.data.test_samples)

    def __getstate__(self) -> dict:
        # Memory maps are opened anew by each process: pickled, they would travel as whole arrays.
        derived = ("algorithm", "dataset", "evaluation_images")
        return {key: value for key, value in self.__dict__.items() if key not in derived}
