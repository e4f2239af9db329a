"""The figures of a search: Optuna's own, and one of ours: what a parameter does to accuracy and bit planes."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.visualization import matplotlib as optunas

from fedmpq.config import Dimension
from fedmpq.reporting.figures import STYLE, WIDTH

ACCURACY = "validation accuracy (%)"
PANELS = {
    "accuracy": (ACCURACY, 100, "#D55E00"),
    "bits_pruned": ("bits pruned per weight", 1, "#009E73"),
}
"""By column of the trials: what it is called, in which unit, in which colour."""
COMPARABLE = 4  # trials of different accuracy, from which the importance of parameters is estimated


def draw_all(study: Study, trials: pd.DataFrame, searched: Mapping[str, Dimension], note: str) -> dict[str, Figure]:
    """Every figure that the search has the data for, by file name without ending; `note` is the small print.

    The objectives of `study` are accuracy (0 .. 1) and, if there are two, bytes; `trials`: `fedmpq.tuning.study.table`.
    """
    mpl.use("Agg")
    numeric = {key: dimension for key, dimension in searched.items() if dimension.kind != "categorical"}
    with mpl.rc_context(STYLE), warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        figures = {
            f"accuracy-over-{key.split('.')[1]}": accuracy_over(trials, key, numeric[key].log) for key in numeric
        }
        figures |= {name: np.ravel(axes)[0].figure for name, axes in _draw(study, len(searched))}
        for figure in figures.values():
            figure.set_layout_engine("constrained")
            figure.supxlabel(note, fontsize=6.5, color="0.4", x=0.01, ha="left")
            plt.close(figure)
    return figures


def accuracy_over(trials: pd.DataFrame, key: str, log: bool) -> Figure:
    """Accuracy over one parameter; below it the bits pruned, where there are any."""
    complete, pruned = (trials[trials["state"] == state] for state in ("complete", "pruned"))
    names = list(PANELS) if trials["bits_pruned"].any() else ["accuracy"]
    figure = Figure(figsize=(WIDTH, 1 + 1.2 * len(names)))
    panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        label, unit, colour = PANELS[name]
        panel.plot(complete[key], unit * complete[name], "o", color=colour, alpha=0.75, clip_on=False)
        panel.margins(y=0.12)
        panel.set_ylabel(label.replace(" ", "\n", 1))
    given_up = {"transform": panels[0].get_xaxis_transform(), "color": "0.35", "label": "given up"}
    panels[0].plot(pruned[key], [0.03] * len(pruned), "|", **given_up)
    panels[0].plot(trials[key][0], 100 * trials["accuracy"][0], "k*", markersize=10, label="best", clip_on=False)
    figure.legend(loc="outside upper right", ncols=2)
    panels[-1].set(xscale="log" if log else "linear", xlabel=key)
    return figure


def _draw(study: Study, searched: int) -> Iterator[tuple[str, Any]]:
    """Name and axes of the figures that Optuna draws."""
    plt.rcParams["figure.figsize"] = WIDTH, 3.2
    accuracy = {"target": lambda trial: 100 * trial.values[0], "target_name": "accuracy"}
    if searched > 1 and len({trial.values[0] for trial in study.trials if trial.values}) >= COMPARABLE:
        yield "importance", optunas.plot_param_importances(study, FanovaImportanceEvaluator(seed=0), **accuracy)
    if len(study.directions) == 2:
        names = ["sent by a client in a round (kB)", ACCURACY]
        both = {"target_names": names, "targets": lambda trial: (trial.values[1] / 1000, 100 * trial.values[0])}
        yield "pareto-front", optunas.plot_pareto_front(study, **both)
    else:
        accuracy["target"] = None  # With a target of ours Optuna draws no line of the best so far.
    yield "history", optunas.plot_optimization_history(study, **accuracy)
