"""The figures of a search: Optuna's own, and one of ours: what a parameter does to accuracy and bit planes."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as optunas

from fedmpq.config import Dimension
from fedmpq.reporting.figures import LOOKS, STYLE, WIDTH
from fedmpq.reporting.tuning import label

ACCURACY = "validation accuracy (%)"
COMPARABLE = 4
"""Complete trials from which the importance of parameters is estimated."""


def draw_all(study: Study, trials: pd.DataFrame, searched: Mapping[str, Dimension], note: str) -> dict[str, Figure]:
    """Every figure that the search has the data for, by file name without ending.

    Args:
        study: of one or two objectives; the first one is accuracy (0 .. 1), the second one bytes.
        trials: `fedmpq.tuning.results.table`.
        searched: what was searched, by dotted key.
        note: the small print.
    """
    mpl.use("Agg")
    ranges = {key: dimension for key, dimension in searched.items() if dimension.kind != "categorical"}
    with mpl.rc_context(STYLE), warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        figures = {f"accuracy-over-{key.rpartition('.')[2]}": accuracy_over(trials, key, ranges[key]) for key in ranges}
        choices = [key for key in searched if key not in ranges]
        figures |= {name: np.ravel(axes)[0].figure for name, axes in _draw_optunas(study, choices, len(searched))}
        for figure in figures.values():
            figure.set_layout_engine("constrained")
            figure.supxlabel(note, fontsize=6.5, color="0.4", x=0.01, ha="left")
            plt.close(figure)
    return figures


def _draw_optunas(study: Study, choices: list[str], searched: int) -> Iterator[tuple[str, Any]]:
    """Name and axes of the figures that Optuna draws."""

    def accuracy(trial: FrozenTrial) -> float:
        return 100 * trial.values[0]

    plt.rcParams["figure.figsize"] = WIDTH, 3.2
    two = len(study.directions) == 2
    complete = [trial for trial in study.trials if trial.values]
    if choices:
        yield "choices", optunas.plot_slice(study, choices, target=accuracy, target_name=ACCURACY)
    if searched > 1 and len({accuracy(trial) for trial in complete}) >= COMPARABLE:
        evaluator = FanovaImportanceEvaluator(seed=0)
        yield "importance", optunas.plot_param_importances(study, evaluator, target=accuracy, target_name="accuracy")
    if two:
        names = ["sent by a client in a round (kB)", ACCURACY]
        yield (
            "pareto-front",
            optunas.plot_pareto_front(
                study, target_names=names, targets=lambda trial: (trial.values[1] / 1000, accuracy(trial))
            ),
        )
    # With a target of ours there is no line of the best so far.
    yield "history", optunas.plot_optimization_history(study, target=accuracy if two else None, target_name="accuracy")


def accuracy_over(trials: pd.DataFrame, key: str, dimension: Dimension) -> Figure:
    """Accuracy over one parameter; below, ones in the top planes and bits pruned, on an axis each."""
    complete = trials[trials["state"] == "complete"]
    quantized = complete["top_plane"].notna().any()
    figure = Figure(figsize=(WIDTH, 4.6 if quantized else 2.9))
    panels = figure.subplots(1 + quantized, sharex=True, squeeze=False)[:, 0]
    panels[0].set_xscale("log" if dimension.log else "linear")
    _points(panels[0], complete[key], 100 * complete["accuracy"], "o", LOOKS["fedmpq"][0], ACCURACY)
    best = complete.iloc[0]
    panels[0].plot(best[key], 100 * best["accuracy"], "*k", markersize=10, label=f"best: trial {best['trial']}")
    for state, marker in (("pruned", "|"), ("fail", "x")):
        places = trials[key][trials["state"] == state]
        if len(places):  # Ticks at the foot: they have no final accuracy.
            foot = panels[0].get_xaxis_transform()
            panels[0].plot(places, [0.03] * len(places), marker, color="0.35", transform=foot, label=state)
    figure.legend(loc="outside upper center", ncols=3)
    if quantized:
        planes, right = panels[1], panels[1].twinx()
        right.grid(visible=False)
        top_plane = 100 * complete["top_plane"]
        _points(planes, complete[key], top_plane, "s", "#0072B2", "ones in the most\nsignificant planes (%)")
        _points(right, complete[key], complete["bits_pruned"], "^", "#009E73", "bits pruned per weight\nand round")
        planes.set_ylim(bottom=0)
        right.set_ylim(bottom=0)
    panels[-1].set_xlabel(label(key) if label(key) == key else f"{label(key)}  ({key})")
    return figure


def _points(panel: Axes, places: pd.Series, heights: pd.Series, marker: str, colour: str, name: str) -> None:
    panel.plot(places, heights, marker, color=colour, alpha=0.75)
    panel.set_ylabel(name, color=colour)
    panel.tick_params(axis="y", colors=colour)
