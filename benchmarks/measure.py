"""What a benchmark finds: two medians, measured in turn, and whether what they make is what was asked for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

AT_MOST, AT_LEAST = "at most", "at least"


def ratio(ours: float, reference: float) -> float:
    """How many times the reference."""
    return ours / reference


def excess(ours: float, reference: float) -> float:
    """What is added to the reference."""
    return ours - reference


def share(ours: float, reference: float) -> float:
    """Part of the reference in percent."""
    return 100 * ours / reference


def efficiency(ours: float, reference: float) -> float:
    """The reference, which is the ideal, in percent of ours."""
    return 100 * reference / ours


def holds(value: float, bound: str, limit: float) -> bool:
    """Whether `value` is `at most` or `at least` the limit."""
    return value <= limit if bound == AT_MOST else value >= limit


@dataclass(frozen=True)
class Samples:
    """One thing measured several times."""

    values: Sequence[float]
    unit: str

    def summary(self) -> dict[str, Any]:
        """The median, and the range in which the values lie."""
        return {
            "median": median(self.values),
            "lowest": min(self.values),
            "highest": max(self.values),
            "samples": len(self.values),
            "unit": self.unit,
        }


@dataclass(frozen=True)
class Benchmark:
    """One row of the table: what is compared with what, and what is asked for."""

    name: str
    measure: str
    against: str
    compare: Callable[[float, float], float]
    """Makes the value of the two medians."""
    bound: str
    """at most | at least"""
    target: float
    unit: str
    """Of the value and the target: x, s or %."""

    def result(self, ours: Samples, reference: Samples, note: str = "") -> dict[str, Any]:
        """The row as it is written, with its verdict; a missed target is no error."""
        measured, against = ours.summary(), reference.summary()
        value = self.compare(measured["median"], against["median"])
        verdict = holds(value, self.bound, self.target)
        return self._row(value, verdict, note) | {"measured": measured, "reference": against}

    def missing(self, reason: str) -> dict[str, Any]:
        """The row of a measurement that could not be made."""
        return self._row(None, None, reason) | {"measured": None, "reference": None}

    def _row(self, value: float | None, verdict: bool | None, note: str) -> dict[str, Any]:
        words = {"name": self.name, "measure": self.measure, "against": self.against}
        numbers = {"value": value, "bound": self.bound, "target": self.target, "unit": self.unit, "holds": verdict}
        return words | numbers | {"note": note}


def seconds(action: Callable[[], Any]) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def alternate(*actions: Callable[[], float], times: int) -> list[list[float]]:
    """What each of `actions` returns, called in turn, so that whatever slows the machine slows them all."""
    found = [[action() for action in actions] for _ in range(times)]
    return [list(column) for column in zip(*found, strict=True)]
