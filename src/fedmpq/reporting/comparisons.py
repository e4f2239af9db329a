"""Two algorithms beside each other: how far apart they end, and when each gets there."""

from typing import NamedTuple

import pandas as pd

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


def difference(first: Cell, second: Cell) -> Difference | None:
    """Final accuracy of `first` minus that of `second`; None if they have no seed in common."""
    ends = [pd.Series(cell.run["final_accuracy"]).filter(like="seed-") for cell in (first, second)]
    points = 100 * ends[0].sub(ends[1]).dropna()
    if points.empty:
        return None
    return Difference(round(points.mean(), 2), round(points.std(), 2) if len(points) > 1 else None)


def arrival(cell: Cell, of: Cell) -> int | None:
    """First round whose accuracy, mean over the seeds, is REACHED of the final one `of` a cell; None if none is."""
    curve = cell.curve("test_accuracy")["mean"]
    reached = curve.index[curve >= REACHED * of.run["final_accuracy"]["mean"]]
    return int(reached[0]) if len(reached) else None


def delays(results: Results, alphas: list[float]) -> dict[float, tuple[int | None, int | None, int]]:
    """By alpha: the rounds in which FedMPQ and FPQ8 reach 90 % of FPQ8's final accuracy, and how far apart they are.

    One that never arrives counts as arriving in the round after the last.
    """
    found = {}
    for alpha in alphas:
        fedmpq, fpq8 = results.cells["fedmpq", alpha], results.cells["fpq8", alpha]
        rounds = [arrival(cell, of=fpq8) for cell in (fedmpq, fpq8)]
        late, early = (reached or fedmpq.run["rounds"] + 1 for reached in rounds)
        found[alpha] = (*rounds, late - early)
    return found
