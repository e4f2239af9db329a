"""One training from its inputs to its results: seeds of one algorithm at one alpha."""

import csv
import importlib.util
import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fedmpq.config import Execution, Experiment, Parameters
from fedmpq.data.arrays import Dataset
from fedmpq.data.partition import Partition
from fedmpq.errors import UserError
from fedmpq.federated.checkpoint import Checkpoint, CheckpointFolder, fingerprint, save_tensors
from fedmpq.federated.executors import build_executor
from fedmpq.federated.hardware import available_cores, describe, resolve_device, resolve_precision
from fedmpq.federated.history import History, Row, summarize
from fedmpq.federated.server import Federation
from fedmpq.federated.setup import Setup
from fedmpq.files import exclusive, replacing, sha256, write_json

PACKAGE = Path(__file__).parents[1]
CODE = ("federated", "models", "quantization", "data/batches.py", "seeding.py")
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
        experiment = parameters.experiment(name)
        device = resolve_device(parameters.execution.device)
        precision = resolve_precision(experiment.precision, device)
        return cls(root, name, experiment, algorithm, alpha, parameters.alpha_label(alpha), device, precision)

    @property
    def data(self) -> Path:
        """Folder of the prepared arrays."""
        return self.root / "data" / "prepared" / self.name

    def partition_file(self, seed: int) -> Path:
        """Where the partition of `seed` is."""
        return self.root / "data" / "partitions" / self.name / f"alpha-{self.alpha_label}" / f"seed-{seed}.npz"

    def partition_hash(self, seed: int) -> str:
        """Digest of the partition of `seed`."""
        self.setup(seed)
        return sha256(self.partition_file(seed))

    def setup(self, seed: int) -> Setup:
        """What workers need for the run of `seed`.

        Raises:
            UserError: the data or the partition are missing or damaged.
        """
        samples = len(Dataset.load(self.data).train_labels)
        partition = Partition.load(self.partition_file(seed), samples)
        if partition.clients != self.experiment.clients:
            raise UserError(
                f"{self.partition_file(seed)} has {partition.clients} clients where {self.experiment.clients} are"
                f" asked for; set `clients` in params.yaml and run: dvc repro partition@{self.name}"
            )
        return Setup(self.experiment, self.algorithm, seed, self.data, partition, self.device, self.precision)

    @cached_property
    def flat_parameters(self) -> dict[str, Any]:
        """Everything in params.yaml that determines the result, by dotted key."""
        return {"alpha": self.alpha, **self.experiment.flat(self.algorithm)}

    @cached_property
    def _common(self) -> dict[str, Any]:
        Dataset.load(self.data)  # It says what is wrong with files that cannot be hashed.
        return {
            "parameters": self.flat_parameters,
            "algorithm": self.algorithm,
            "data": sha256(*(self.data / name for name in ARRAYS)),
            "code": sha256(*code_files(self.experiment.model)),
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
        return fingerprint({"seeds": [self.seed_fingerprint(seed) for seed in self.experiment.seeds]})

    def lock_file(self, out: Path) -> Path:
        """The file whose lock is held by whoever writes results to `out`."""
        return self.root / "checkpoints" / "locks" / f"{fingerprint({'out': str(out.resolve())})[:16]}.lock"

    def checkpoints(self, seed: int) -> CheckpointFolder:
        """Where the run of `seed` keeps what it needs to go on."""
        return CheckpointFolder(self.root / "checkpoints" / self.seed_fingerprint(seed)[:16])


def code_files(model: str) -> list[Path]:
    """The source files that determine results, among them that of a model of the user's own."""
    places = [PACKAGE / name for name in CODE]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    module, colon, _ = model.partition(":")
    try:
        specification = importlib.util.find_spec(module) if colon else None
    except (ImportError, ValueError) as error:
        raise UserError(f"model: cannot import {model!r}: {error}") from error
    if colon and specification is None:
        raise UserError(f"model: cannot import {model!r}: there is no module {module!r}")
    return files + ([Path(specification.origin)] if specification and specification.origin else [])


class SeedRun:
    """The run of one seed: from the beginning, or from its last checkpoint."""

    def __init__(self, cell: Cell, seed: int):
        self.cell, self.seed = cell, seed
        self.folder = cell.checkpoints(seed)
        last = self.folder.last()
        self.history = last.history if last else None
        self.run_id = last.run_id if last else None
        self._state = last.state if last else None

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from running the same seed of the same parameters."""
        return exclusive(self.folder.folder / "run.lock", f"{self.folder.folder}")

    @property
    def done(self) -> int:
        """Rounds completed."""
        return self._state.round if self._state else 0

    @property
    def model_file(self) -> Path:
        """State dictionary of the final global model, once the run is complete."""
        return self.folder.folder / "model.pt"

    def rounds(self, execution: Execution) -> Iterator[tuple[Row, list[Row]]]:
        """Run what is left and yield each round's rows of rounds.csv and bits.csv, then save it."""
        setup = self.cell.setup(self.seed)
        with build_executor(execution, setup) as executor:
            federation = Federation(setup, executor)
            layout = federation.layout
            self.history = self.history or History(self.seed, self.cell.experiment.budgets, layout.layers, layout.sizes)
            self._save(self._state or federation.initial)
            for record in federation.rounds(self._state):
                self.history.append(record)
                yield self.history.rounds[-1], list(self.history.bits(record.round))
                self._save(record.state)
            save_tensors(layout.state_dict(self._state.model), self.model_file)

    def _save(self, state: Any) -> None:
        self._state = state
        self.folder.save(Checkpoint(state, self.history, self.run_id))


def write_results(cell: Cell, histories: Sequence[History], execution: Execution, folder: Path) -> None:
    """Write metrics.json, rounds.csv and bits.csv of all seeds: all three, or none."""
    processes = execution.executor == "processes"
    hardware = {
        **describe(cell.device),
        "precision": cell.precision,
        "executor": execution.executor,
        "workers": (execution.workers or available_cores()) if processes else 1,
    }
    metrics = {
        "experiment": cell.name,
        "algorithm": cell.algorithm,
        "alpha": cell.alpha,
        "seeds": [history.seed for history in histories],
        "rounds": cell.experiment.rounds,
        **summarize(histories),
        "hardware": hardware,
        "parameters": cell.flat_parameters,
        "partition": {f"seed-{history.seed}": cell.partition_hash(history.seed) for history in histories},
        "fingerprint": cell.fingerprint,
    }
    with replacing(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / "metrics.json", metrics)
        _write_csv(temporary / "rounds.csv", [row for history in histories for row in history.rounds])
        _write_csv(temporary / "bits.csv", [row for history in histories for row in history.bits()])


def _write_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())
