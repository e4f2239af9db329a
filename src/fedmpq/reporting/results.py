"""Results of an experiment: read from results/<experiment>/, checked, handed on as frames."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedmpq.config import Experiment, Parameters
from fedmpq.errors import UserError

PAPER_PARTITIONS = (0.1, 0.5, 5)
"""Alphas of the supplement's partition figures, shown for every experiment."""
COMPARED = {"cifar10": "cifar100", "cifar100": "cifar10"}
"""The experiments whose speed the paper compares."""
ROUND_COLUMNS = ["seed", "round", "test_accuracy", "uplink_bytes", "downlink_bytes", "seconds"]
BIT_COLUMNS = ["seed", "round", "client", "budget", "layer", "parameters", "bits_given", "bits_left"]
NAMES = {"fp32": "FP32", "fpq8": "FPQ8", "aqfl": "AQFL", "fedmpq": "FedMPQ", "pruning": "Pruning only"}


class Metrics(BaseModel):
    """metrics.json of one cell. Accuracies are in 0..1, bytes are those of one client in one round."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    algorithm: str
    alpha: float
    seeds: list[int] = Field(min_length=1)
    rounds: int = Field(ge=1)
    final_accuracy: dict[str, float | None]
    best_accuracy: dict[str, float | None]
    average_bits: dict[str, float]
    bytes_per_client_and_round: dict[str, float]
    seconds_per_round: float
    hardware: dict[str, Any]
    parameters: dict[str, Any]

    @model_validator(mode="after")
    def _complete(self) -> "Metrics":
        accuracies = {"mean", "std", *(f"seed-{seed}" for seed in self.seeds)}
        needed = {
            "final_accuracy": accuracies,
            "best_accuracy": accuracies,
            "average_bits": {"given", "left"},
            "bytes_per_client_and_round": {"uplink", "downlink", "nominal"},
        }
        for name, keys in needed.items():
            if missing := sorted(keys - getattr(self, name).keys()):
                raise ValueError(f"{name}.{missing[0]} is missing")
        return self


@dataclass(frozen=True)
class Cell:
    """What one algorithm left at one alpha, over all its seeds."""

    algorithm: str
    alpha: float
    label: str
    """`alpha` as it stands in folder names."""
    metrics: Metrics
    rounds: pd.DataFrame
    """One row a seed and round."""
    bits: pd.DataFrame
    """One row a seed, round, client and layer; layers in the order of the network."""

    def curve(self, column: str) -> pd.DataFrame:
        """Mean, lowest and highest of `column` over the seeds, one row a round."""
        return self.rounds.groupby("round")[column].agg(["mean", "min", "max"])

    @cached_property
    def last_bits(self) -> pd.DataFrame:
        """The rows of `bits` of each client's last round."""
        return self.bits[self.bits["round"] == self.bits.groupby(["seed", "client"])["round"].transform("max")]

    def client_bits(self, budget: float) -> pd.DataFrame:
        """Last round of the first client of `budget` in the first seed, one row a layer; may be empty."""
        rows = self.last_bits[self.last_bits["budget"] == budget]
        rows = rows[rows["seed"] == rows["seed"].min()]
        return rows[rows["client"] == rows["client"].min()]


@dataclass(frozen=True)
class Results:
    """All that a report is made of. `cells` may lack pairs of `algorithms` x `alphas`."""

    experiment: str
    settings: Experiment
    algorithms: tuple[str, ...]
    alphas: tuple[float, ...]
    cells: dict[tuple[str, float], Cell]
    partitions: dict[float, pd.DataFrame]
    """By alpha: columns seed, client and a count of images for each label."""
    classes: tuple[str, ...]
    """Names of the labels; empty if neither data nor partition are there."""
    compared: "Results | None" = None
    """The experiment that the paper compares this one with, where it has results."""

    @property
    def missing(self) -> list[tuple[str, float]]:
        """Pairs of algorithm and alpha that have no results."""
        return [(name, alpha) for alpha in self.alphas for name in self.algorithms if (name, alpha) not in self.cells]

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing, 1 / number of classes."""
        return 1 / len(self.classes) if self.classes else None

    def at(self, alpha: float) -> list[Cell]:
        """The cells at `alpha`, in the order of the algorithms."""
        return [self.cells[name, alpha] for name in self.algorithms if (name, alpha) in self.cells]

    @property
    def shown_alphas(self) -> list[float]:
        """The alphas that have results."""
        return [alpha for alpha in self.alphas if self.at(alpha)]

    @property
    def seeds(self) -> list[int]:
        """Seeds that occur in any cell."""
        return sorted({seed for cell in self.cells.values() for seed in cell.metrics.seeds})

    @property
    def lengths(self) -> list[int]:
        """Numbers of rounds that occur; more than one if cells come from different settings."""
        return sorted({cell.metrics.rounds for cell in self.cells.values()})

    @property
    def hardware(self) -> list[str]:
        """One line for each machine that worked on the results."""
        return list(dict.fromkeys(_machine(cell.metrics.hardware) for cell in self.cells.values()))


def shown(algorithm: str) -> str:
    """The name by which people know `algorithm`."""
    return NAMES.get(algorithm, algorithm)


def counts(partition: pd.DataFrame, seed: int | None = None) -> np.ndarray:
    """Images of each client (row) and label (column) for `seed`, by default the first one."""
    rows = partition[partition["seed"] == (partition["seed"].min() if seed is None else seed)]
    return rows.sort_values("client").filter(regex="^label_").to_numpy()


def load(root: Path, parameters: Parameters, experiment: str) -> Results:
    """Read what `experiment` has left below `root`: data/prepared, data/partitions and results.

    Raises:
        UserError: there is no such experiment; it has no results at all; or a file is broken.
    """
    results = _read(root, parameters, experiment)
    if not results.cells:
        raise UserError(f"results/{experiment} holds no results yet; put {experiment} under `experiments` in"
                        " params.yaml and run `dvc repro`")  # fmt: skip
    return results


def _read(root: Path, parameters: Parameters, experiment: str, with_compared: bool = True) -> Results:
    settings = parameters.experiment(experiment)
    cells, partitions = {}, {}
    for alpha in parameters.alphas:
        label = parameters.alpha_label(alpha)
        for name in parameters.algorithms:
            if cell := _read_cell(root, Path("results", experiment, name, f"alpha-{label}"), name, alpha, label):
                cells[name, alpha] = cell
    for alpha in sorted({*parameters.alphas, *PAPER_PARTITIONS}):
        path = Path("data/partitions", experiment, f"alpha-{parameters.alpha_label(alpha)}", "counts.csv")
        if (root / path).exists():
            partitions[alpha] = _read_table(root, path, ["seed", "client", "label_0"])
    other = COMPARED.get(settings.data.source) if with_compared else None
    compared = _read(root, parameters, other, False) if other in parameters.sections else None
    return Results(
        experiment=experiment,
        settings=settings,
        algorithms=tuple(parameters.algorithms),
        alphas=tuple(parameters.alphas),
        cells=cells,
        partitions=partitions,
        classes=_classes(root / "data/prepared" / experiment / "meta.json", partitions),
        compared=compared if compared and compared.cells else None,
    )


def _read_cell(root: Path, folder: Path, algorithm: str, alpha: float, label: str) -> Cell | None:
    """The cell, or None where nothing was left; part of one is an error."""
    if not any((root / folder / name).exists() for name in ("metrics.json", "rounds.csv", "bits.csv")):
        return None
    metrics = _read_metrics(root, folder / "metrics.json")
    if (metrics.algorithm, metrics.alpha) != (algorithm, alpha):
        raise _broken(folder / "metrics.json", f"it is of {metrics.algorithm} at alpha {metrics.alpha:g}")
    rounds = _read_table(root, folder / "rounds.csv", ROUND_COLUMNS)
    lengths = rounds.groupby("seed")["round"].agg(["count", "max"])
    if set(lengths.index) != set(metrics.seeds) or (lengths != metrics.rounds).any(axis=None):
        raise _broken(folder / "rounds.csv", f"it must have rounds 1 to {metrics.rounds} of seeds {metrics.seeds}")
    if not rounds["test_accuracy"].between(0, 1).all():
        raise _broken(folder / "rounds.csv", "test_accuracy must be in 0..1")
    return Cell(algorithm, alpha, label, metrics, rounds, _read_table(root, folder / "bits.csv", BIT_COLUMNS))


def _read_metrics(root: Path, path: Path) -> Metrics:
    try:
        return Metrics.model_validate(json.loads((root / path).read_text()))
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _broken(path, f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()) from error
    except ValueError as error:
        raise _broken(path, str(error)) from error


def _read_table(root: Path, path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(root / path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise _broken(path, getattr(error, "strerror", None) or str(error)) from error
    if missing := [column for column in columns if column not in table]:
        raise _broken(path, f"column {missing[0]} is missing")
    numbers = [column for column in columns if column != "layer"]
    if table.empty or table[columns].isna().any(axis=None) or any(table[c].dtype.kind not in "if" for c in numbers):
        raise _broken(path, "it is empty, or a value is missing or no number")
    return table


def _broken(path: Path, fault: str) -> UserError:
    return UserError(f"{path} is broken: {' '.join(fault.split())}; delete that folder and run `dvc repro` again")


def _classes(meta: Path, partitions: dict[float, pd.DataFrame]) -> tuple[str, ...]:
    if meta.exists():
        try:
            return tuple(map(str, json.loads(meta.read_text())["classes"]))
        except (ValueError, KeyError, TypeError) as error:
            raise _broken(meta.relative_to(meta.parents[3]), "it has no list of classes") from error
    labels = [c for table in partitions.values() for c in table.columns if c.startswith("label_")]
    return tuple(column.removeprefix("label_") for column in dict.fromkeys(labels))


def _machine(hardware: dict[str, Any]) -> str:
    parts = [str(hardware.get("processor", "unknown processor"))]
    if cores := hardware.get("cores"):
        parts.append(f"{cores} core{'s' if cores != 1 else ''}")
    parts += [str(hardware[key]) for key in ("device", "precision") if hardware.get(key)]
    return ", ".join(parts)
