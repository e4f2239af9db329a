"""One trial: the seeds of an experiment side by side, round by round, measured on validation images."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from fedmpq.config import Execution, Experiment
from fedmpq.data.arrays import Dataset
from fedmpq.data.dirichlet import draw_partition, training_samples, validation_split
from fedmpq.engine.executors import build_executor
from fedmpq.engine.hardware import resolve_device, resolve_precision
from fedmpq.engine.history import History
from fedmpq.federated.server import Federation
from fedmpq.federated.setup import Setup
from fedmpq.tuning.planes import Answers, top_planes

Row = dict[str, Any]


class TrialFailed(Exception):
    """A trial has no value; the text is its reason."""


@dataclass(frozen=True)
class Plan:
    """What all trials of a study share."""

    data: Path
    """Folder of the prepared arrays."""
    algorithm: str
    alpha: float
    device: torch.device

    @classmethod
    def of(cls, data: Path, algorithm: str, alpha: float, device: str) -> "Plan":
        """The plan on the device that `device` resolves to."""
        return cls(data, algorithm, alpha, resolve_device(device))

    def setups(self, experiment: Experiment) -> list[Setup]:
        """The run of each seed, on a partition of the training images that are not held out for validation.

        Raises:
            UserError: the data are missing or damaged, or cannot be divided so.
        """
        return [self._setup(experiment, seed) for seed in experiment.seeds]

    def _setup(self, experiment: Experiment, seed: int) -> Setup:
        labels = Dataset.load(self.data).train_labels
        used = training_samples(labels, experiment.train_samples, seed)
        trained, held_out = validation_split(labels[used], experiment.validation, seed)
        partition = draw_partition(
            labels,
            experiment.clients,
            self.alpha,
            seed,
            min_samples=experiment.min_samples,
            max_redraws=experiment.max_redraws,
            samples=used[trained],
        )
        precision = resolve_precision(experiment.precision, self.device)
        return Setup(
            experiment, self.algorithm, seed, self.data, partition, self.device, precision, held_out=used[held_out]
        )


class SeedRun:
    """The run of one seed within a trial."""

    def __init__(self, setup: Setup, answers: Answers):
        self.answers = answers
        self.federation = Federation(setup, answers)
        self.layout = self.federation.layout
        self.history = History(setup.seed, setup.experiment.budgets, self.layout.layers, self.layout.sizes)

    def rounds(self) -> Iterator[Row]:
        """Yield for each round its row of rounds.csv, with its rows of bits.csv and its top planes.

        Raises:
            TrialFailed: the validation loss is not finite.
        """
        for record in self.federation.rounds():
            self.history.append(record)
            row, bits = self.history.rounds[-1], list(self.history.bits(record.round))
            if not math.isfinite(row["test_loss"]):
                raise TrialFailed(f"the validation loss is {row['test_loss']} in round {record.round}")
            yield row | {"bits": bits, "planes": top_planes(self.answers.taken(), bits, self.layout)}


def run(plan: Plan, experiment: Experiment, execution: Execution) -> Iterator[Row]:
    """Train `experiment` with all of its seeds and yield a row of plain numbers after each round.

    Returns:
        `round`, `seconds` of it; validation `accuracy` (0 .. 1, mean over seeds), `accuracies` (by seed), `loss`;
        `uplink_bytes`, `downlink_bytes`: mean over seeds and clients, of this round; bits per weight `given` and
        `left`, and the same by budget; `top_plane`: share of ones (0 .. 1) in the most significant planes, None
        where nothing is quantized.

    Raises:
        UserError: the data are missing, cannot be divided, or too few clients answer.
        TrialFailed: the validation loss is not finite.
    """
    with ExitStack() as stack:
        runs = [
            SeedRun(setup, stack.enter_context(Answers(build_executor(execution, setup))))
            for setup in plan.setups(experiment)
        ]
        before = [{"uplink_bytes": 0, "downlink_bytes": 0}] * len(runs)
        for rows in zip(*(run.rounds() for run in runs), strict=True):
            yield _mean(rows, before, experiment.clients)
            before = rows


def _mean(rows: Sequence[Row], before: Sequence[Row], clients: int) -> Row:
    def sent(column: str) -> float:
        return fmean(row[column] - old[column] for row, old in zip(rows, before, strict=True)) / clients

    accuracies = {f"seed-{row['seed']}": row["test_accuracy"] for row in rows}
    bits = [entry for row in rows for entry in row["bits"]]
    ones, weights = (sum(row["planes"][i] for row in rows) for i in range(2))
    return {
        "round": rows[0]["round"],
        "seconds": sum(row["seconds"] for row in rows),
        "accuracy": fmean(accuracies.values()),
        "accuracies": accuracies,
        "loss": fmean(row["test_loss"] for row in rows),
        "uplink_bytes": sent("uplink_bytes"),
        "downlink_bytes": sent("downlink_bytes"),
        "given": _average(bits, "bits_given"),
        "left": _average(bits, "bits_left"),
        "by_budget": _by_budget(bits),
        "top_plane": ones / weights if weights else None,
    }


def _average(bits: Sequence[Row], column: str) -> float:
    return sum(row[column] * row["parameters"] for row in bits) / sum(row["parameters"] for row in bits)


def _by_budget(bits: Sequence[Row]) -> dict[str, dict[str, float]]:
    groups = defaultdict(list)
    for row in bits:
        groups[f"{row['budget']:g}"].append(row)
    return {b: {k: _average(rows, f"bits_{k}") for k in ("given", "left")} for b, rows in groups.items()}


def summarize(rows: Sequence[Row], final_rounds: int) -> Row:
    """A trial in numbers: accuracies, bits and planes over its last `final_rounds` rounds, bytes over all of them.

    Args:
        rows: of `run`; at least one.
        final_rounds: how many of the last rounds count.
    """
    last = rows[-final_rounds:]
    by_seed = {seed: fmean(row["accuracies"][seed] for row in last) for seed in last[0]["accuracies"]}
    planes = [row["top_plane"] for row in last if row["top_plane"] is not None]
    given, left = (fmean(row[name] for row in last) for name in ("given", "left"))
    return {
        "accuracy": fmean(by_seed.values()),
        "accuracy_std": stdev(by_seed.values()) if len(by_seed) > 1 else None,
        "bits_given": given,
        "bits_left": left,
        "bits_pruned": given - left,
        "top_plane": fmean(planes) if planes else None,
        "uplink_bytes": fmean(row["uplink_bytes"] for row in rows),
        "downlink_bytes": fmean(row["downlink_bytes"] for row in rows),
        "rounds": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
    }
