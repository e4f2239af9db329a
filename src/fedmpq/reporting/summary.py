"""The numbers of a report: one row for each algorithm and alpha, and what they were obtained with."""

from importlib.metadata import version
from platform import python_version
from typing import Any

from fedmpq.reporting.comparisons import difference
from fedmpq.reporting.results import Cell, Results, shown


def summarize(results: Results) -> dict[str, Any]:
    """What summary.json holds. Accuracies are in 0..1, differences in points, bytes per client and round."""
    return {
        "experiment": results.experiment,
        "data": results.settings.data.source,
        "model": results.settings.model.network,
        "classes": len(results.classes) or None,
        "chance": results.chance,
        "seeds": results.seeds,
        "rounds": results.lengths,
        "hardware": results.hardware,
        "versions": versions(results),
        "cells": [_row(results, cell) for alpha in results.alphas for cell in results.at(alpha)],
        "missing": [{"algorithm": name, "alpha": alpha} for name, alpha in results.missing],
    }


def versions(results: Results) -> dict[str, str]:
    """torch as the trainings used it, and what this report is made by."""
    torch = dict.fromkeys(str(cell.metrics.hardware.get("torch", "unknown")) for cell in results.cells.values())
    packages = {name: version(name) for name in ("matplotlib", "pandas")}
    return {"torch": ", ".join(torch), "python": python_version(), **packages}


def _row(results: Results, cell: Cell) -> dict[str, Any]:
    metrics, traffic = cell.metrics, cell.metrics.bytes_per_client_and_round
    fp32 = results.cells.get(("fp32", cell.alpha))
    gap = difference(cell, fp32) if fp32 and fp32 is not cell else None
    return {
        "algorithm": cell.algorithm,
        "alpha": cell.alpha,
        "final_accuracy": {key: metrics.final_accuracy[key] for key in ("mean", "std")},
        "device_accuracy": _device_accuracy(cell),
        "best_accuracy": {key: metrics.best_accuracy[key] for key in ("mean", "std")},
        "points_to_fp32": gap.mean if gap else None,
        "average_bits": metrics.average_bits,
        "uplink_bytes": traffic["uplink"],
        "downlink_bytes": traffic["downlink"],
        "nominal_bytes": traffic["nominal"],
        "size_to_fp32": traffic["uplink"] / fp32.metrics.bytes_per_client_and_round["uplink"] if fp32 else None,
        "seconds_per_round": metrics.seconds_per_round,
    }


HEADINGS = ["alpha", "algorithm", "accuracy (%)", "on devices (%)", "best (%)", "vs FP32", "bits"]
HEADINGS += ["up (kB)", "down (kB)", "nominal (kB)", "size (% of FP32)", "s / round"]
IN_TERMINAL = {"alpha", "algorithm", "accuracy (%)", "vs FP32", "bits", "up (kB)", "size (% of FP32)"}
"""The columns that fit into 80 characters."""
NOTHING = "-"


def table(summary: dict[str, Any]) -> list[list[str]]:
    """Headings and rows as text, also of cells without results; a column without any number is left out."""
    rows = [
        [
            f"{row['alpha']:g}",
            shown(row["algorithm"]),
            _percent(row["final_accuracy"]),
            _optional(row["device_accuracy"], 100, ".1f"),
            _percent(row["best_accuracy"]),
            _optional(row["points_to_fp32"], 1, "+.1f"),
            f"{row['average_bits']['given']:.2f}",
            *(f"{row[key] / 1000:,.1f}" for key in ("uplink_bytes", "downlink_bytes", "nominal_bytes")),
            _optional(row["size_to_fp32"], 100, ".1f"),
            f"{row['seconds_per_round']:.2f}",
        ]
        for row in summary["cells"]
    ]
    missing = [[f"{m['alpha']:g}", shown(m["algorithm"]), "missing"] for m in summary["missing"]]
    rows += [row + [NOTHING] * (len(HEADINGS) - len(row)) for row in missing]
    columns = [column for column in zip(HEADINGS, *rows, strict=True) if set(column[1:]) != {NOTHING}]
    return [list(row) for row in zip(*columns, strict=True)]


def as_plain_text(summary: dict[str, Any]) -> str:
    """The summary table for a terminal."""
    columns = [column for column in zip(*table(summary), strict=True) if column[0] in IN_TERMINAL]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _device_accuracy(cell: Cell) -> float | None:
    """Mean over the last 5 rounds of the accuracy at the clients' bit-widths, where it was measured."""
    if "device_accuracy" not in cell.rounds:
        return None
    last = cell.rounds["round"] > cell.metrics.rounds - 5
    return float(cell.rounds["device_accuracy"][last].mean())


def _percent(accuracy: dict[str, float | None]) -> str:
    spread = "" if accuracy["std"] is None else f" ± {100 * accuracy['std']:.1f}"
    return f"{100 * accuracy['mean']:.1f}{spread}"


def _optional(value: float | None, unit: float, form: str) -> str:
    return NOTHING if value is None else format(unit * value, form)
