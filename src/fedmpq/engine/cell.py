"""One cell of the matrix of trainings, and everything that determines its result."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fedmpq.config import Experiment, Parameters
from fedmpq.data.arrays import Dataset
from fedmpq.data.partition import Partition
from fedmpq.engine import inputs
from fedmpq.engine.checkpoint import fingerprint
from fedmpq.engine.hardware import resolve_device, resolve_precision
from fedmpq.engine.method import code_digest
from fedmpq.federated.setup import Setup
from fedmpq.files import sha256

ARRAYS = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: experiment x algorithm x alpha."""

    root: Path
    """Folder of params.yaml."""
    name: str
    """Of the experiment."""
    experiment: Experiment
    algorithm: str
    alpha: float
    alpha_label: str
    device: torch.device
    precision: str

    @classmethod
    def of(cls, root: Path, parameters: Parameters, name: str, algorithm: str, alpha: float) -> "Cell":
        """The cell that `parameters` describes, on the device and in the precision that it resolves to."""
        experiment = parameters.experiment(name).at(alpha)
        device = resolve_device(parameters.execution.device)
        precision = resolve_precision(experiment.training.precision, device)
        return cls(root, name, experiment, algorithm, alpha, parameters.alpha_label(alpha), device, precision)

    @cached_property
    def data(self) -> Path:
        """Folder of the prepared arrays."""
        return inputs.arrays(self.root, self.name, self.experiment.data)

    @cached_property
    def partitions(self) -> Path:
        """Folder of the partitions of all seeds."""
        return inputs.partitions(self.root, self.name, self.experiment, self.alpha, self.alpha_label, self.data)

    def partition_file(self, seed: int) -> Path:
        """Where the partition of `seed` is."""
        return self.partitions / f"seed-{seed}.npz"

    def partition_hash(self, seed: int) -> str:
        """Digest of the partition of `seed`."""
        self.setup(seed)
        return sha256(self.partition_file(seed))

    def setup(self, seed: int) -> Setup:
        """What workers need for the run of `seed`; raises UserError where data are missing or damaged."""
        partition = Partition.load(self.partition_file(seed), len(Dataset.load(self.data).train_labels))
        return Setup(self.experiment, self.algorithm, seed, self.data, partition, self.device, self.precision)

    @cached_property
    def flat_parameters(self) -> dict[str, Any]:
        """Everything in params.yaml that determines the result, by dotted key."""
        return {"algorithm": self.algorithm, "alpha": self.alpha, **self.experiment.flat(self.algorithm)}

    @cached_property
    def _common(self) -> dict[str, Any]:
        Dataset.load(self.data)  # It says what is wrong with files that cannot be hashed.
        return {
            "parameters": self.flat_parameters,
            "data": sha256(*(self.data / name for name in ARRAYS)),
            "code": code_digest(self.experiment.algorithm(self.algorithm).of, self.experiment.model.network),
            "device": self.device.type,
            "precision": self.precision,
            "torch": torch.__version__,
        }

    def seed_fingerprint(self, seed: int) -> str:
        """Digest of everything that determines the run of `seed`."""
        return fingerprint({**self._common, "seed": seed, "partition": self.partition_hash(seed)})

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything that determines the result."""
        return self.fingerprint_of(self.experiment.partition.seeds)

    def fingerprint_of(self, seeds: list[int]) -> str:
        """The same of results that have these `seeds` alone."""
        return fingerprint({"seeds": [self.seed_fingerprint(seed) for seed in seeds]})

    def lock_file(self, out: Path) -> Path:
        """The file whose lock is held by whoever writes results to `out`."""
        return self.root / "checkpoints" / "locks" / f"{fingerprint({'out': str(out.resolve())})[:16]}.lock"

    def checkpoints(self, seed: int) -> Path:
        """Folder in which the run of `seed` keeps what it needs to go on."""
        return self.root / "checkpoints" / self.seed_fingerprint(seed)[:16]
