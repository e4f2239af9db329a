"""Results of an experiment: read from results/<experiment>/, checked, handed on as frames."""

import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from fedmpq.config import Experiment, Parameters
from fedmpq.engine.results import BITS, COUNTS, FILES, FINAL_ROUNDS, ROUNDS, broken, read_run, read_table, to_csv
from fedmpq.errors import UserError
from fedmpq.files import write_text

PARTITIONS = "partitions.csv"  # of a report: what it shows of the data, for where they are not
COMPARED = {"cifar10": "cifar100", "cifar100": "cifar10"}  # whose speed the paper compares
NAMES = {"fp32": "FP32", "fpq8": "FPQ8", "aqfl": "AQFL", "fedmpq": "FedMPQ", "pruning": "Pruning only"}
NAMES |= {"fedmpq_plus": "FedMPQ+", "fedpaq": "FedPAQ", "uveqfed": "UVeQFed"}


@dataclass(frozen=True)
class Cell:
    """What one algorithm left at one alpha, over all its seeds."""

    algorithm: str
    alpha: float
    run: dict[str, Any]
    """run.json."""
    rounds: pd.DataFrame
    """One row a seed and round."""
    bits: pd.DataFrame
    """One row a seed, round, client and layer; layers in the order of the network."""

    def curve(self, column: str) -> pd.DataFrame:
        """Mean, lowest and highest of `column` over the seeds, one row a round."""
        return self.rounds.groupby("round")[column].agg(["mean", "min", "max"])

    def final(self, devices: bool = False) -> pd.Series:
        """Final accuracy of the global model, or on devices, in percent, of each seed."""
        rows = self.rounds[self.rounds["round"] > self.run["rounds"] - FINAL_ROUNDS]
        column = "device_accuracy" if devices else "test_accuracy"
        return 100 * rows.reindex(columns=["seed", column]).groupby("seed")[column].mean()

    def minus(self, other: "Cell", devices: bool = False) -> pd.Series:
        """`final` minus that of `other`, in points, of each seed that both have."""
        return (self.final(devices) - other.final(devices)).dropna()

    def early(self, share: float) -> pd.Series:
        """Accuracy in percent of each seed, mean over the first `share` of its rounds."""
        rows = self.rounds[self.rounds["round"] <= math.ceil(share * self.run["rounds"])]
        return 100 * rows.groupby("seed")["test_accuracy"].mean()

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
    """All that a report is made of. `cells`, in order of the alphas, may lack pairs of `algorithms` x `alphas`."""

    experiment: str
    settings: Experiment
    algorithms: list[str]
    alphas: list[float]
    cells: dict[tuple[str, float], Cell]
    partitions: dict[float, pd.DataFrame]
    """By alpha, ascending: columns seed, client and a count of images for each label."""
    classes: list[str]
    """Names of the labels; empty if the data are not there."""
    compared: "Results | None" = None
    """The experiment that the paper compares this one with, where params.yaml has it."""

    def common_alphas(self, *algorithms: str) -> list[float]:
        """The alphas at which all of `algorithms` have results."""
        return [alpha for alpha in self.alphas if all((name, alpha) in self.cells for name in algorithms)]

    @property
    def runs(self) -> list[dict[str, Any]]:
        """What run.json holds, of each cell."""
        return [cell.run for cell in self.cells.values()]

    @property
    def seeds(self) -> list[int]:
        """Seeds that occur in any cell."""
        return sorted({seed for run in self.runs for seed in run["seeds"]})

    @cached_property
    def seeds_at(self) -> dict[float, list[int]]:
        """Seeds that occur at each alpha that has cells."""
        found = {alpha: set() for _, alpha in self.cells}
        for (_, alpha), cell in self.cells.items():
            found[alpha].update(cell.run["seeds"])
        return {alpha: sorted(seeds) for alpha, seeds in found.items()}

    @property
    def seeding(self) -> str:
        """`seeds_at` in words."""
        alphas = {}
        for alpha, seeds in self.seeds_at.items():
            alphas.setdefault(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}", []).append(f"{alpha:g}")
        where = {words: f" at alpha {', '.join(those)}" * (len(alphas) > 1) for words, those in alphas.items()}
        return "; ".join(words + place for words, place in where.items())

    @property
    def mixed(self) -> bool:
        """Whether cells differ in their rounds, or cells of one alpha in their seeds."""
        differ = (sorted(cell.run["seeds"]) != self.seeds_at[alpha] for (_, alpha), cell in self.cells.items())
        return len(self.lengths) > 1 or any(differ)

    @property
    def lengths(self) -> list[int]:
        """Numbers of rounds that occur; more than one if cells come from different settings."""
        return sorted({run["rounds"] for run in self.runs})

    @property
    def duration(self) -> str:
        """`lengths` in words."""
        return f"{' or '.join(map(str, self.lengths))} round{'s' * (self.lengths != [1])}"

    @property
    def hardware(self) -> list[str]:
        """One line for each machine that worked on the results."""
        line = "{processor}, {cores} cores, {device}, {precision}"
        made = (made for run in self.runs for made in (*run["earlier"].values(), run))
        return list(dict.fromkeys(line.format_map(each["hardware"]) for each in made))


def shown(algorithm: str) -> str:
    """The name by which people know `algorithm`."""
    return NAMES.get(algorithm, algorithm)


def rounded(points: float) -> float | None:
    """`points` to two decimals; None for NaN, which is the deviation of a single seed."""
    return None if math.isnan(points) else round(points, 2)


def load(root: Path, parameters: Parameters, experiment: str) -> Results:
    """Read what `experiment` has left below `root`: data/prepared, data/partitions and results.

    Raises:
        UserError: there is no such experiment; it has no results at all; or a file is broken.
    """
    results = _read(root, parameters, experiment)
    if not results.cells:
        advice = "put it under `experiments` in params.yaml and run `dvc repro`"
        raise UserError(f"results/{experiment} holds no results yet; {advice}")
    source = results.settings.data.source
    other = experiment.replace(source, COMPARED.get(source, source))  # cifar10-small with cifar100-small
    if other == experiment or other not in parameters.sections:
        return results
    return replace(results, compared=_read(root, parameters, other))


def _read(root: Path, parameters: Parameters, experiment: str) -> Results:
    settings, algorithms, alphas = parameters.experiment(experiment), parameters.algorithms, parameters.alphas
    cells = {}
    for alpha, name in product(alphas, algorithms):
        folder = root / "results" / experiment / name / f"alpha-{parameters.alpha_label(alpha)}"
        if any((folder / file).exists() for file in FILES):
            cells[name, alpha] = _read_cell(folder, name, alpha)
    paths = (root / "data/partitions" / experiment).glob("alpha-*/counts.csv")
    tables = {float(path.parent.name.removeprefix("alpha-")): read_table(path, COUNTS) for path in paths}
    meta = root / "data/prepared" / experiment / "meta.json"
    try:
        classes = list(map(str, json.loads(meta.read_text())["classes"])) if meta.exists() else []
    except (ValueError, KeyError, TypeError) as error:
        raise broken(meta, "it has no list of classes") from error
    results = Results(experiment, settings, algorithms, alphas, cells, dict(sorted(tables.items())), classes)
    kept = root / "reports" / experiment / PARTITIONS
    return results if tables or not kept.exists() else _with_kept(results, kept)


def keep_partitions(results: Results, path: Path) -> None:
    """Write the partitions to `path`, with the names of the labels, for where the data are not."""
    if results.partitions:
        table = pd.concat(results.partitions, names=["alpha"])
        table = table.copy().reset_index("alpha")  # pandas warns of one in the pieces in which it is read
        names = {f"label_{label}": f"label_{label} {name}" for label, name in enumerate(results.classes)}
        write_text(path, to_csv(table.rename(columns=names)))


def _with_kept(results: Results, path: Path) -> Results:
    table = read_table(path, {"alpha": float, "seed": int, "client": int})
    names = [column.partition(" ") for column in table.filter(like="label_")]
    table = table.rename(columns={"".join(name): name[0] for name in names})
    partitions = {alpha: rows.drop(columns="alpha") for alpha, rows in table.groupby("alpha")}
    return replace(results, partitions=partitions, classes=[name for *_, name in names if name])


def _read_cell(folder: Path, algorithm: str, alpha: float) -> Cell:
    run, rounds = read_run(folder), read_table(folder / "rounds.csv", ROUNDS)
    if (run["algorithm"], run["alpha"]) != (algorithm, alpha):
        raise broken(folder / "run.json", f"it is of {run['algorithm']} at alpha {run['alpha']:g}")
    lengths = rounds.groupby("seed")["round"].agg(["count", "max"])
    if set(lengths.index) != set(run["seeds"]) or (lengths != run["rounds"]).any(axis=None):
        raise broken(folder / "rounds.csv", f"it must have rounds 1 to {run['rounds']} of seeds {run['seeds']}")
    if not rounds["test_accuracy"].between(0, 1).all():
        raise broken(folder / "rounds.csv", "test_accuracy must be in 0..1")
    return Cell(algorithm, alpha, run, rounds, read_table(folder / "bits.csv", BITS))
