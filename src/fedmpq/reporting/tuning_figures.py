"""The figures of a search, each from trials.csv and best.yaml."""

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedmpq.reporting.figures import ALPHA, BAR, LOOKS, STYLE, WIDTH
from fedmpq.reporting.results import shown
from fedmpq.reporting.tuning import Tuning, label

ACCURACY, PLANES, PRUNED = LOOKS["fedmpq"][0], "#0072B2", "#009E73"
BANDWIDTH = 0.08
"""Of the trend lines: standard deviation of their weights, as a share of the searched range."""


def draw_all(tuning: Tuning) -> dict[str, Figure]:
    """Every figure that the search has the data for, by file name without ending, in the report's order."""
    with mpl.rc_context(STYLE):
        figures = {}
        for key in tuning.keys:
            if tuning.best["searched"][key].startswith(("float ", "int ")):
                figures[f"accuracy-over-{key.rpartition('.')[2]}"] = accuracy_over(tuning, key)
        if tuning.best.get("importance"):
            figures["importance"] = importance(tuning)
        if tuning.best.get("front"):
            figures["pareto-front"] = pareto_front(tuning)
        figures["history"] = history(tuning)
    return figures


def accuracy_over(tuning: Tuning, key: str) -> Figure:
    """Accuracy over one parameter; below, the ones in the top planes and the bits pruned, on an axis each."""
    complete = tuning.complete
    quantized = complete["top_plane"].notna().any()
    figure = _figure(tuning, 4.6 if quantized else 2.9)
    panels = figure.subplots(1 + quantized, sharex=True, squeeze=False, height_ratios=[1.25, 1][: 1 + quantized])[:, 0]
    upper = panels[0]
    if tuning.is_log(key):
        upper.set_xscale("log")
    _points(tuning, upper, key, 100 * complete["accuracy"], "o", ACCURACY, "complete trial")
    _best(tuning, upper, complete[key], 100 * complete["accuracy"])
    _early(tuning, upper, key)
    upper.set_ylabel("validation accuracy (%)")
    _legend(figure, upper)
    if quantized:
        _planes_and_pruned(tuning, panels[1], key)
    panels[-1].set_xlabel(label(key) + (f"  ({key})" if label(key) != key else ""))
    return figure


def _planes_and_pruned(tuning: Tuning, panel: Axes, key: str) -> None:
    complete, right = tuning.complete, panel.twinx()
    _points(tuning, panel, key, 100 * complete["top_plane"], "s", PLANES)
    _points(tuning, right, key, complete["bits_pruned"], "^", PRUNED)
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    for axes, colour, side, text in (
        (panel, PLANES, "left", "ones in the most\nsignificant planes (%)"),
        (right, PRUNED, "right", "bits pruned per weight\nand round"),
    ):
        axes.set_ylabel(text, color=colour)
        axes.tick_params(axis="y", colors=colour)
        axes.spines[side].set_color(colour)
        axes.set_ylim(bottom=0)


def _points(
    tuning: Tuning, panel: Axes, key: str, heights: pd.Series, marker: str, colour: str, name: str | None = None
) -> None:
    """The complete trials and, where there are enough, their trend."""
    places = tuning.complete[key].to_numpy(float)
    panel.plot(places, heights, marker, color=colour, alpha=0.75, markeredgewidth=0, markersize=4.5, label=name)
    scaled = np.log(places) if tuning.is_log(key) else places
    if len(places) < 6 or np.ptp(scaled) == 0:
        return
    grid = np.linspace(scaled.min(), scaled.max(), 100)
    weights = np.exp(-0.5 * ((grid[:, None] - scaled) / (BANDWIDTH * np.ptp(scaled))) ** 2)
    trend = weights @ heights.to_numpy(float) / weights.sum(1)
    panel.plot(np.exp(grid) if tuning.is_log(key) else grid, trend, color=colour, linewidth=1.1, alpha=0.6)


def _best(tuning: Tuning, panel: Axes, places: pd.Series, heights: pd.Series) -> None:
    chosen = tuning.complete["trial"] == tuning.best["trial"]
    panel.plot(
        places[chosen],
        heights[chosen],
        "*",
        color="black",
        markersize=11,
        markeredgecolor="white",
        markeredgewidth=0.7,
        label=f"best: trial {tuning.best['trial']}",
        zorder=5,
    )


def _early(tuning: Tuning, panel: Axes, key: str) -> None:
    """Ticks at the foot for trials without a final accuracy."""
    for state, marker, name in (("pruned", "|", "given up early"), ("failed", "x", "failed")):
        places = tuning.trials[key][tuning.trials["state"] == state]
        if len(places):
            foot = panel.get_xaxis_transform()
            panel.plot(
                places,
                [0.03] * len(places),
                marker,
                color="0.35",
                transform=foot,
                label=name,
                markersize=6,
                clip_on=False,
            )


def history(tuning: Tuning) -> Figure:
    """Accuracy of the trials in their order, and the best so far."""
    complete = tuning.complete
    figure = _figure(tuning, 2.7)
    panel = figure.subplots()
    heights = 100 * complete["accuracy"]
    panel.plot(complete["trial"], heights, "o", color=ACCURACY, markersize=4.5, alpha=0.75, label="complete trial")
    end = tuning.trials["trial"].max()
    steps, best = [*complete["trial"], end], [*heights.cummax(), heights.max()]
    panel.step(steps, best, where="post", color="0.3", linewidth=1, label="best so far")
    _best(tuning, panel, complete["trial"], heights)
    _early(tuning, panel, "trial")
    panel.set(xlabel="trial", ylabel="validation accuracy (%)", xlim=(-0.8, end + 0.8))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(figure, panel)
    return figure


def importance(tuning: Tuning) -> Figure:
    """How much of the spread in accuracy each parameter explains."""
    shares = dict(reversed(tuning.best["importance"].items()))
    figure = _figure(tuning, 0.9 + 0.34 * len(shares))
    panel = figure.subplots()
    names = [f"{label(key)}  ({key})" for key in shares]
    bars = panel.barh(names, [100 * share for share in shares.values()], color=BAR, height=0.6)
    panel.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=8)
    panel.set(xlabel="share of the spread in accuracy that it explains (%)", xlim=(0, 108))
    panel.grid(axis="y", visible=False)
    return figure


def pareto_front(tuning: Tuning) -> Figure:
    """Accuracy against the bytes that a client sends in a round, and the front of both."""
    complete = tuning.complete
    front = complete[complete["trial"].isin(tuning.best["front"])].sort_values("uplink_bytes")
    figure = _figure(tuning, 3.2)
    panel = figure.subplots()
    panel.plot(complete["uplink_bytes"] / 1000, 100 * complete["accuracy"], "o", color="0.6", label="complete trial")
    places, heights = front["uplink_bytes"] / 1000, 100 * front["accuracy"]
    panel.plot(places, heights, "o-", color=ACCURACY, label="front", drawstyle="steps-post")
    for row in front.itertuples():
        panel.annotate(
            f"trial {row.trial}",
            (row.uplink_bytes / 1000, 100 * row.accuracy),
            xytext=(4, -9),
            textcoords="offset points",
            fontsize=7,
        )
    panel.margins(0.12)  # room for the labels
    panel.set(xlabel="sent by a client in a round (kB)", ylabel="validation accuracy (%)")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    _legend(figure, panel)
    return figure


def _legend(figure: Figure, panel: Axes) -> None:
    """One row above the panels."""
    lines, labels = panel.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=len(labels), handlelength=1.6)


def _figure(tuning: Tuning, height: float) -> Figure:
    """An empty figure with the small print: data set, model, seeds, rounds, hardware."""
    fixed, name = tuning.fixed, tuning.best["experiment"]
    seeds = ", ".join(map(str, fixed["seeds"]))
    parts = [name] + ([f"data {fixed['data']}"] if fixed["data"] != name else [])
    parts += [f"{fixed['train_samples']:,} images"] if fixed["train_samples"] else []
    parts += [
        *([fixed["model"]] if "model" in fixed else []),
        f"{shown(fixed['algorithm'])}, {ALPHA} = {fixed['alpha']:g}",
        f"seed{'s' * (len(fixed['seeds']) > 1)} {seeds}",
        f"{fixed['rounds']} rounds, accuracy over the last {fixed['final_rounds']}",
        f"{len(tuning.trials)} trials",
        tuning.best["hardware"],
    ]
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    footer = textwrap.fill("  ·  ".join(parts), 150)
    figure.supxlabel(footer, fontsize=6.5, color="0.4", x=0.01, ha="left")
    return figure
