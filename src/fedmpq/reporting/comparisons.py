"""Two algorithms beside each other: how far apart they end, and when each gets there."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fedmpq.reporting.results import Cell, Results

REACHED = 0.9
"""The share of a final accuracy at which a curve counts as arrived."""


class Difference(NamedTuple):
    """Final accuracy of one algorithm minus another's at the same seeds, in points."""

    mean: float
    std: float | None
    """Standard deviation over the seeds; None with one seed."""

    def __str__(self) -> str:
        if self.std is None:
            return f"{self.mean:+.1f} points"
        noise = ", within seed noise" if abs(self.mean) <= self.std else ""
        return f"{self.mean:+.1f} ± {self.std:.1f} points{noise}"


def common_alphas(results: Results, *algorithms: str) -> list[float]:
    """The alphas at which all of `algorithms` have results."""
    return [alpha for alpha in results.alphas if all((name, alpha) in results.cells for name in algorithms)]


def difference(first: Cell, second: Cell) -> Difference | None:
    """Final accuracy of `first` minus that of `second`; None if they have no seed in common."""
    seeds = [f"seed-{seed}" for seed in first.metrics.seeds if seed in second.metrics.seeds]
    if not seeds:
        return None
    ends = [[cell.metrics.final_accuracy[seed] for seed in seeds] for cell in (first, second)]
    points = 100 * np.subtract(*ends)
    std = round(float(points.std(ddof=1)), 2) if len(seeds) > 1 else None
    return Difference(round(float(points.mean()), 2), std)


def differences(results: Results, first: str, second: str, alphas: Iterable[float] = ()) -> dict[float, Difference]:
    """`difference` of two algorithms at each of `alphas` (all, if none are named) at which both have results."""
    found = {
        alpha: difference(results.cells[first, alpha], results.cells[second, alpha])
        for alpha in common_alphas(results, first, second)
        if not alphas or alpha in alphas
    }
    return {alpha: value for alpha, value in found.items() if value}


def arrival(cell: Cell, final: float) -> int | None:
    """First round whose accuracy, mean over the seeds, is REACHED of `final` (0..1); None if none is."""
    curve = cell.curve("test_accuracy")["mean"]
    hits = curve.index[curve >= REACHED * final]
    return int(hits[0]) if len(hits) else None


def delays(results: Results, alphas: Iterable[float] = ()) -> dict[float, tuple[int | None, int | None, int]]:
    """By alpha: the rounds in which FedMPQ and FPQ8 reach 90 % of FPQ8's final accuracy, and how far apart they are.

    One that never arrives counts as arriving in the round after the last.
    """
    found = {}
    for alpha in common_alphas(results, "fedmpq", "fpq8"):
        if not alphas or alpha in alphas:
            fedmpq, fpq8 = results.cells["fedmpq", alpha], results.cells["fpq8", alpha]
            rounds = [arrival(cell, fpq8.metrics.final_accuracy["mean"]) for cell in (fedmpq, fpq8)]
            late, early = (reached or fedmpq.metrics.rounds + 1 for reached in rounds)
            found[alpha] = (*rounds, late - early)
    return found
