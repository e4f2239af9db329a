"""The numbers of a report: one row for each algorithm and alpha, and what they were obtained with."""

from importlib.metadata import version
from platform import python_version
from typing import Any

import pandas as pd

from fedmpq.engine.results import FINAL_ROUNDS
from fedmpq.reporting.results import Cell, Results, shown


def summarize(results: Results) -> dict[str, Any]:
    """What summary.json holds. Accuracies are in 0..1, differences in points, bytes per client and round."""
    torch = ", ".join(sorted({run["hardware"]["torch"] for run in results.runs}))
    return {
        "experiment": results.experiment,
        "data": results.settings.data.source,
        "model": results.settings.model.network,
        "classes": len(results.classes) or None,
        "chance": results.chance,
        "seeds": results.seeds,
        "rounds": results.lengths,
        "hardware": results.hardware,
        "versions": {"torch": torch, "python": python_version()} | {n: version(n) for n in ("matplotlib", "pandas")},
        "cells": [_row(results, cell) for alpha in results.alphas for cell in results.at(alpha)],
        "missing": [{"algorithm": name, "alpha": alpha} for name, alpha in results.missing],
    }


def _row(results: Results, cell: Cell) -> dict[str, Any]:
    run, fp32 = cell.run, results.cells.get(("fp32", cell.alpha))
    traffic = run["bytes_per_client_and_round"]
    gap = cell.minus(fp32) if fp32 and fp32 is not cell else None
    last = cell.rounds[cell.rounds["round"] > run["rounds"] - FINAL_ROUNDS]
    return {
        "algorithm": cell.algorithm,
        "alpha": cell.alpha,
        "final_accuracy": {key: run["final_accuracy"][key] for key in ("mean", "std")},
        "device_accuracy": float(last["device_accuracy"].mean()) if "device_accuracy" in last else None,
        "best_accuracy": {key: run["best_accuracy"][key] for key in ("mean", "std")},
        "points_to_fp32": gap.mean if gap else None,
        "average_bits": run["average_bits"],
        "uplink_bytes": traffic["uplink"],
        "downlink_bytes": traffic["downlink"],
        "nominal_bytes": traffic["nominal"],
        "size_to_fp32": traffic["uplink"] / fp32.run["bytes_per_client_and_round"]["uplink"] if fp32 else None,
        "seconds_per_round": run["seconds_per_round"],
    }


NUMBERS = {
    "accuracy (%)": ("final_accuracy.mean", 100, "{:.1f}"),
    "on devices (%)": ("device_accuracy", 100, "{:.1f}"),
    "best (%)": ("best_accuracy.mean", 100, "{:.1f}"),
    "vs FP32": ("points_to_fp32", 1, "{:+.1f}"),
    "bits": ("average_bits.all", 1, "{:.2f}"),
    "of weights": ("average_bits.given", 1, "{:.2f}"),
    "up (kB)": ("uplink_bytes", 1e-3, "{:,.1f}"),
    "down (kB)": ("downlink_bytes", 1e-3, "{:,.1f}"),
    "nominal (kB)": ("nominal_bytes", 1e-3, "{:,.1f}"),
    "size (% of FP32)": ("size_to_fp32", 100, "{:.1f}"),
    "s / round": ("seconds_per_round", 1, "{:.2f}"),
}
"""By heading: which number of a cell, in which unit and form."""
IN_TERMINAL = ["alpha", "algorithm", "accuracy (%)", "vs FP32", "bits", "up (kB)", "size (% of FP32)"]
"""The columns that fit into 80 characters."""


def table(summary: dict[str, Any]) -> pd.DataFrame:
    """The cells as text, also those without results; a column without any number is left out."""
    cells = pd.json_normalize(summary["cells"] + summary["missing"])
    texts = {"alpha": cells["alpha"].map("{:g}".format), "algorithm": cells["algorithm"].map(shown)}
    for heading, (key, unit, form) in NUMBERS.items():
        texts[heading] = _texts(cells[key], unit, form)
        if key.endswith(".mean"):
            texts[heading] += _texts(cells[key.replace(".mean", ".std")], unit, f" ± {form}").fillna("")
    texts["accuracy (%)"] = texts["accuracy (%)"].fillna("missing")
    return pd.DataFrame(texts).dropna(axis="columns", how="all").fillna("-")


def as_plain_text(summary: dict[str, Any]) -> str:
    """The summary table for a terminal."""
    return table(summary).filter(IN_TERMINAL).to_string(index=False)


def _texts(numbers: pd.Series, unit: float, form: str) -> pd.Series:
    return pd.Series([None if pd.isna(number) else form.format(unit * number) for number in numbers], dtype=object)
