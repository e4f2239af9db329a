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
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as optunas

from fedmpq.config import Dimension
from fedmpq.reporting.figures import STYLE, WIDTH

ACCURACY, PLANES, PRUNED = "validation accuracy (%)", "ones in top planes (%)", "bits pruned per weight"
COLOURS = {ACCURACY: "#D55E00", PLANES: "#0072B2", PRUNED: "#009E73"}
COMPARABLE = 4
"""Trials of different accuracy from which the importance of parameters is estimated."""


def draw_all(study: Study, trials: pd.DataFrame, searched: Mapping[str, Dimension], note: str) -> dict[str, Figure]:
    """Every figure that the search has the data for, by file name without ending; `note` is the small print.

    The objectives of `study` are accuracy (0 .. 1) and, if there are two, bytes; `trials`: `fedmpq.tuning.study.table`.
    """
    mpl.use("Agg")
    figures = {}
    with mpl.rc_context(STYLE), warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        for key, dimension in searched.items():
            if dimension.kind != "categorical":
                figures[f"accuracy-over-{key.split('.')[1]}"] = accuracy_over(trials, key, dimension.log)
        figures |= {name: np.ravel(axes)[0].figure for name, axes in _draw(study, len(searched))}
        for figure in figures.values():
            figure.set_layout_engine("constrained")
            figure.supxlabel(note, fontsize=6.5, color="0.4", x=0.01, ha="left")
            plt.close(figure)
    return figures


def accuracy_over(trials: pd.DataFrame, key: str, log: bool) -> Figure:
    """Accuracy over one parameter; below it the ones in the top planes and the bits pruned, where there are any."""
    measured = {ACCURACY: 100 * trials["accuracy"], PLANES: 100 * trials["top_plane"], PRUNED: trials["bits_pruned"]}
    complete, pruned = (trials["state"] == state for state in ("complete", "pruned"))
    names = list(measured) if measured[PLANES].notna().any() else [ACCURACY]
    figure = Figure(figsize=(WIDTH, 1 + 1.2 * len(names)))
    panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        panel.plot(trials[key][complete], measured[name][complete], "o", color=COLOURS[name], alpha=0.75, clip_on=False)
        panel.margins(y=0.12)
        panel.set_ylabel(name.replace(" ", "\n", 1))
    foot = panels[0].get_xaxis_transform()
    panels[0].plot(
        trials[key][pruned], 0.03 + 0 * trials[key][pruned], "|", color="0.35", transform=foot, label="given up"
    )
    panels[0].plot(trials[key][0], measured[ACCURACY][0], "k*", markersize=10, label="best", clip_on=False)
    figure.legend(loc="outside upper right", ncols=2)
    panels[-1].set(xscale="log" if log else "linear", xlabel=key)
    return figure


def _draw(study: Study, searched: int) -> Iterator[tuple[str, Any]]:
    """Name and axes of the figures that Optuna draws."""

    def accuracy(trial: FrozenTrial) -> float:
        return 100 * trial.values[0]

    def both(trial: FrozenTrial) -> tuple[float, float]:
        return trial.values[1] / 1000, accuracy(trial)

    plt.rcParams["figure.figsize"] = WIDTH, 3.2
    two = len(study.directions) == 2
    if searched > 1 and len({trial.values[0] for trial in study.trials if trial.values}) >= COMPARABLE:
        evaluator = FanovaImportanceEvaluator(seed=0)
        yield "importance", optunas.plot_param_importances(study, evaluator, target=accuracy, target_name="accuracy")
    if two:
        names = ["sent by a client in a round (kB)", ACCURACY]
        yield "pareto-front", optunas.plot_pareto_front(study, target_names=names, targets=both)
    # With a target of ours Optuna draws no line of the best so far.
    yield "history", optunas.plot_optimization_history(study, target=accuracy if two else None, target_name="accuracy")
