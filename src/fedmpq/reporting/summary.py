"""The numbers of a report: one row for each algorithm and alpha, and what they were obtained with."""

from importlib.metadata import version
from itertools import product
from platform import python_version

import pandas as pd

from fedmpq.engine.results import FINAL_ROUNDS, Row
from fedmpq.reporting.results import NAMES, Cell, Results, rounded, shown

BASELINES = ("fp32", "fpq8", "fedmpq")
NUMBERS = {
    "seeds": ("seeds", None, 1, "{:.0f}"),
    "accuracy (%)": ("final_accuracy.mean", "final_accuracy.std", 100, "{:.1f}"),
    "std. error": ("final_accuracy.error", None, 100, "{:.1f}"),
    "on devices (%)": ("device_accuracy", None, 100, "{:.1f}"),
    "best (%)": ("best_accuracy.mean", "best_accuracy.std", 100, "{:.1f}"),
    **{f"vs {shown(name)}": (f"points_to_{name}.mean", f"points_to_{name}.error", 1, "{:+.1f}") for name in BASELINES},
    "bits": ("average_bits.all", None, 1, "{:.2f}"),
    "of weights": ("average_bits.given", None, 1, "{:.2f}"),
    "up (kB)": ("uplink_bytes", None, 1e-3, "{:,.1f}"),
    "down (kB)": ("downlink_bytes", None, 1e-3, "{:,.1f}"),
    "nominal (kB)": ("nominal_bytes", None, 1e-3, "{:,.1f}"),
    "size (% of FP32)": ("size_to_fp32", None, 100, "{:.1f}"),
    "s / round": ("seconds_per_round", None, 1, "{:.2f}"),
}
"""By heading: which number of a cell, what stands behind its ±, in which unit and form."""
IN_TERMINAL = ["alpha", "algorithm", "accuracy (%)", "vs FP32", "bits", "up (kB)", "size (% of FP32)"]


def summarize(results: Results) -> Row:
    """What summary.json holds. Accuracies are in 0..1, differences in points, bytes per client and round."""
    torch = ", ".join(sorted({run["hardware"]["torch"] for run in results.runs}))
    variants = {name for name, _ in results.cells} - NAMES.keys()  # An ablation is of one alpha or more, not of all.
    whole = [name for name in results.algorithms if name not in variants]
    missing = [pair for pair in product(results.alphas, whole) if pair[::-1] not in results.cells]
    return {
        "experiment": results.experiment,
        "data": results.settings.data.source,
        "model": results.settings.model.network,
        "classes": len(results.classes) or None,
        "chance": 1 / len(results.classes) if results.classes else None,
        "seeds": results.seeds,
        "rounds": results.lengths,
        "hardware": results.hardware,
        "versions": {"torch": torch, "python": python_version()} | {n: version(n) for n in ("matplotlib", "pandas")},
        "cells": [_row(results, cell) for cell in results.cells.values()],
        "missing": [{"algorithm": algorithm, "alpha": alpha} for alpha, algorithm in missing],
    }


def _row(results: Results, cell: Cell) -> Row:
    run, last = cell.run, cell.rounds[cell.rounds["round"] > cell.run["rounds"] - FINAL_ROUNDS]
    final, traffic = run["final_accuracy"], run["bytes_per_client_and_round"]
    others = {name: results.cells.get((name, cell.alpha)) for name in BASELINES}
    points = {name: cell.minus(o) if o and o is not cell else pd.Series(dtype=float) for name, o in others.items()}
    fp32, error = others["fp32"], final["std"] and final["std"] / len(run["seeds"]) ** 0.5
    return {
        "algorithm": cell.algorithm,
        "alpha": cell.alpha,
        "seeds": len(run["seeds"]),
        "final_accuracy": {"mean": final["mean"], "std": final["std"], "error": error},
        "device_accuracy": float(last["device_accuracy"].mean()) if "device_accuracy" in last else None,
        "best_accuracy": {key: run["best_accuracy"][key] for key in ("mean", "std")},
        **{f"points_to_{n}": {"mean": rounded(p.mean()), "error": rounded(p.sem())} for n, p in points.items()},
        "average_bits": run["average_bits"],
        **{f"{way}_bytes": traffic[way] for way in ("uplink", "downlink", "nominal")},
        "size_to_fp32": traffic["uplink"] / fp32.run["bytes_per_client_and_round"]["uplink"] if fp32 else None,
        "seconds_per_round": run["seconds_per_round"],
    }


def table(summary: Row) -> pd.DataFrame:
    """The cells as text, also those without results; a column without any number is left out."""
    cells = pd.json_normalize(summary["cells"] + summary["missing"])
    texts = {"alpha": cells["alpha"].map("{:g}".format), "algorithm": cells["algorithm"].map(shown)}
    for heading, (key, spread, unit, form) in NUMBERS.items():
        texts[heading] = _texts(unit * cells[key].astype(float), form)
        if spread:
            texts[heading] += _texts(unit * cells[spread].astype(float), " ± {:.1f}").fillna("")
    texts["accuracy (%)"] = texts["accuracy (%)"].fillna("missing")
    return pd.DataFrame(texts).dropna(axis="columns", how="all").fillna("-")


def as_plain_text(summary: Row) -> str:
    """The columns of the summary table that fit into the 80 characters of a terminal."""
    return table(summary).filter(IN_TERMINAL).to_string(index=False)


def _texts(numbers: pd.Series, form: str) -> pd.Series:
    return numbers.map(form.format, na_action="ignore").astype(object)
