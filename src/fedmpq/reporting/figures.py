"""The figures of a report. Each function draws one from results; `save` makes its PNG, the same bytes each time."""

import io
import math
import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedmpq.files import write_bytes
from fedmpq.reporting.results import Cell, Results, counts, shown

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.8,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "figure.dpi": 180,
    "savefig.facecolor": "white",
}
WIDTH = 7.2
"""Inches; the fonts are chosen for a figure of this width shown as wide as a README."""
# Okabe and Ito's colours, which differ to colour-blind eyes; line and marker tell the rest apart in grey.
LOOKS = {
    "fp32": ("#000000", (0, (5, 2)), "s"),
    "fpq8": ("#0072B2", (0, (4, 1.5, 1, 1.5)), "^"),
    "aqfl": ("#E69F00", (0, (1.5, 1.2)), "D"),
    "fedmpq": ("#D55E00", "-", "o"),
    "pruning": ("#CC79A7", (0, (3, 1, 1, 1, 1, 1)), "v"),
}
OTHER_LOOKS = [("#009E73", (0, (6, 1.5)), "P"), ("#56B4E9", (0, (2.5, 1)), "X"), ("#B0A000", (0, (1, 2)), "*")]
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
BAR = "#0072B2"
BUDGET_COLOURS = ["#D55E00", "#E69F00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9", "#000000", "#B0A000"]
BUDGETS = (2, 4, 6)
"""Budgets of the supplement's figures 3 and 4."""


def accuracy_over_rounds(results: Results) -> Figure:
    """Test accuracy after each round, a panel for each alpha (the supplement's figures 5 to 7)."""
    figure, panels = _accuracy_panels(results, lambda cell: cell.curve("test_accuracy").index)
    for panel in panels:
        panel.set_xlabel("round")
        panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    return figure


def accuracy_over_bytes(results: Results) -> Figure:
    """Test accuracy over what the clients have sent up to then, a panel for each alpha."""
    figure, panels = _accuracy_panels(results, lambda cell: cell.curve("uplink_bytes")["mean"] / 1e6)
    for panel in panels:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.set_xlabel("sent by all clients so far (MB)")
    return figure


def bits_per_layer(results: Results, cell: Cell) -> Figure | None:
    """Bits of each layer in the last round for clients of budget 2, 4, 6; None if none has such a budget."""
    clients = {budget: rows for budget in BUDGETS if len(rows := cell.client_bits(budget))}
    if not clients:
        return None
    layers = [(row.layer, f"{row.parameters:,}") for row in next(iter(clients.values())).itertuples()]
    longest = max(len(part) for layer in layers for part in layer)
    upright = longest * len(layers) <= 100
    names = [("\n" if upright else "  ").join(layer) for layer in layers]
    below = 0.85 if upright else 0.5 + 0.06 * max(map(len, names))
    figure = _figure(results, 1.25 * len(clients) + below, _bits_note(results, cell))
    panels = figure.subplots(len(clients), sharex=True, squeeze=False)[:, 0]
    for panel, (budget, rows) in zip(panels, clients.items(), strict=True):
        places = range(len(rows))
        panel.bar(places, rows["bits_given"], width=0.72, color=BAR)
        panel.axhline(budget, color="#D55E00", linewidth=1, linestyle=(0, (4, 2)))
        for place, bits in zip(places, rows["bits_given"], strict=True):
            number = panel.text(place, bits + 0.1, f"{bits:g}", ha="center", va="bottom", fontsize=6.5, color="0.2")
            number.set_path_effects([withStroke(linewidth=2, foreground="white")])
        panel.set(ylim=(0, 8.9), yticks=range(0, 9, 2), xlim=(-0.7, len(rows) - 0.3), ylabel="bits")
        panel.grid(axis="x", visible=False)
        average = (rows["bits_given"] * rows["parameters"]).sum() / rows["parameters"].sum()
        panel.set_title(f"budget {budget} (dashed): {average:.2f} bits per weight", loc="left")
    rotation, size = 0 if upright else 90, min(7, 280 / len(names))
    panels[-1].set_xticks(range(len(names)), names, rotation=rotation, fontsize=size)
    panels[-1].set_xlabel("layer and its number of weights")
    figure.suptitle(f"{shown(cell.algorithm)}, {ALPHA} = {cell.alpha:g}", fontsize=10)
    return figure


def average_bits(results: Results, algorithm: str = "fedmpq") -> Figure | None:
    """Average bits per weight over rounds for each budget: given, and left after pruning. A panel an alpha."""
    cells = [cell for alpha in results.alphas if (cell := results.cells.get((algorithm, alpha)))]
    if not cells:
        return None
    figure, panels = _grid(results, len(cells), 2.6)
    for panel, cell in zip(panels, cells, strict=True):
        weighted = cell.bits[["bits_given", "bits_left"]].mul(cell.bits["parameters"], axis=0)
        sums = weighted.assign(parameters=cell.bits["parameters"]).groupby([cell.bits["budget"], cell.bits["round"]])
        averages = sums.sum().pipe(lambda t: t[["bits_given", "bits_left"]].div(t["parameters"], axis=0))
        for colour, (budget, rows) in zip(BUDGET_COLOURS * 8, averages.groupby(level=0), strict=False):
            rows = rows.droplevel(0)
            panel.plot(rows.index, rows["bits_given"], color=colour, linestyle=(0, (4, 2)), linewidth=1)
            panel.plot(rows.index, rows["bits_left"], color=colour, label=f"budget {budget:g}")
        panel.set(title=f"{ALPHA} = {cell.alpha:g}", xlabel="round", ylim=(0, 8.4), yticks=range(0, 9, 2))
        panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    figure.supylabel("average bits per weight", fontsize=8.5)
    _legend(figure, panels, f"{shown(algorithm)}: dashed given, solid left after pruning")
    return figure


def partitions(results: Results) -> Figure | None:
    """Images of each label on each client as heat maps, first seed, one for each alpha (figures 1 and 2)."""
    if not results.partitions:
        return None
    tables = {alpha: counts(table) for alpha, table in results.partitions.items()}
    clients, labels = next(iter(tables.values())).shape
    columns = 2 if labels <= 12 and len(tables) > 1 else 1
    height = min(0.22 * clients, 4) + 0.75
    seed = next(iter(results.partitions.values()))["seed"].min()
    rows = math.ceil(len(tables) / columns)
    note = f"partition of seed {seed}; all panels share one scale of colour"
    figure = _figure(results, height * rows + 0.4, note, trained=False)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    norm = PowerNorm(0.6, 0, max(table.max() for table in tables.values()))
    for panel, (alpha, table) in zip(panels, tables.items(), strict=False):
        image = panel.imshow(table, cmap="Blues", norm=norm, aspect="auto")
        panel.set(title=f"{ALPHA} = {alpha:g}", ylabel="client" if panel.get_subplotspec().is_first_col() else "")
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)
        panel.yaxis.set_major_locator(MaxNLocator(min(clients, 10), integer=True))
        _label_classes(panel, results.classes)
        if labels <= 20 and clients <= 20:
            _write_counts(panel, table, norm)
    if len(panels) > len(tables):
        panels[-1].set_axis_off()
        place = {"cax": panels[-1].inset_axes((0.1, 0.6, 0.8, 0.05)), "orientation": "horizontal"}
    else:
        place = {"ax": panels, "shrink": 0.6, "aspect": 30, "pad": 0.02}
    figure.colorbar(image, label="images", **place).outline.set_visible(False)
    return figure


def draw_all(results: Results) -> dict[str, Figure]:
    """Every figure that the results have the data for, by file name without ending, in the report's order."""
    with mpl.rc_context(STYLE):
        figures = {
            "accuracy-over-rounds": accuracy_over_rounds(results),
            "accuracy-over-bytes": accuracy_over_bytes(results),
        }
        for alpha in results.alphas:
            if cell := results.cells.get(("fedmpq", alpha)):
                figures[f"bits-per-layer-alpha-{cell.label}"] = bits_per_layer(results, cell)
        figures |= {"average-bits": average_bits(results), "partitions": partitions(results)}
    return {name: figure for name, figure in figures.items() if figure}


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG without date or version, so that equal results give equal bytes."""
    content = io.BytesIO()
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
    write_bytes(path, content.getvalue())


def look(algorithm: str, algorithms: tuple[str, ...]) -> dict:
    """Colour, line and marker of `algorithm`; those that LOOKS does not know take turns at the others."""
    others = [name for name in algorithms if name not in LOOKS]
    known = LOOKS.get(algorithm)
    colour, line, marker = known or OTHER_LOOKS[others.index(algorithm) % len(OTHER_LOOKS)]
    return {"color": colour, "linestyle": line, "marker": marker, "label": shown(algorithm)}


def footer(results: Results, note: str = "", trained: bool = True) -> str:
    """The small print of a figure: data set, model, seeds, rounds, hardware."""
    settings = results.settings
    parts = [results.experiment] + (
        [f"data {settings.data.source}"] if settings.data.source != results.experiment else []
    )
    if trained:
        parts += [settings.model.network, f"seed{'s' * (len(results.seeds) > 1)} {', '.join(map(str, results.seeds))}"]
        parts += [f"{' or '.join(map(str, results.lengths))} rounds", *results.hardware]
    return textwrap.fill("  ·  ".join([*parts, *([note] if note else [])]), 150)


def _accuracy_panels(results: Results, places: Callable) -> tuple[Figure, list[Axes]]:
    """Panels of test accuracy over `places(cell)`, with bands over the seeds and the level of chance."""
    alphas = results.shown_alphas
    note = "band: lowest to highest of the seeds" if len(results.seeds) > 1 else ""
    figure, panels = _grid(results, len(alphas), 2.75, note)
    for panel, alpha in zip(panels, alphas, strict=True):
        for cell in results.at(alpha):
            style, curve, x = look(cell.algorithm, results.algorithms), cell.curve("test_accuracy") * 100, places(cell)
            # Spacing along the drawn line, shifted by algorithm, so that markers do not hide one another.
            shift = 0.03 * results.algorithms.index(cell.algorithm)
            panel.plot(x, curve["mean"], markevery=(shift, 0.2), **style)
            panel.fill_between(x, curve["min"], curve["max"], color=style["color"], alpha=0.14, linewidth=0)
        if results.chance:
            level = 100 * results.chance
            panel.axhline(level, color="0.5", linewidth=0.8, linestyle=":", label=f"chance ({level:.3g} %)")
        panel.set_title(f"{ALPHA} = {alpha:g}")
    panels[0].set_ylim(bottom=0)
    figure.supylabel("test accuracy (%)", fontsize=8.5)
    _legend(figure, panels)
    return figure, panels


def _figure(results: Results, height: float, note: str = "", trained: bool = True) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.supxlabel(footer(results, note, trained), fontsize=6.5, color="0.4", x=0.01, ha="left")
    return figure


def _grid(results: Results, panels: int, height: float, note: str = "") -> tuple[Figure, list[Axes]]:
    """A figure of `panels` panels in rows of two or three, each `height` inches high, with one scale of y."""
    columns = 2 if panels == 4 else min(panels, 3)
    rows = math.ceil(panels / columns)
    figure = _figure(results, height * rows + 0.5, note)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for panel in axes[panels:]:
        panel.set_axis_off()
    return figure, list(axes[:panels])


def _legend(figure: Figure, panels: list[Axes], title: str | None = None) -> None:
    """One legend above all panels, with each label once."""
    entries = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    labels = sorted(entries, key=lambda label: label.startswith("chance"))
    lines = [entries[label] for label in labels]
    columns = math.ceil(len(labels) / math.ceil(len(labels) / 6))
    figure.legend(lines, labels, loc="outside upper center", ncols=columns, title=title)


def _bits_note(results: Results, cell: Cell) -> str:
    seed = f"seed {cell.last_bits['seed'].min()}, " if len(results.seeds) > 1 else ""
    return f"{seed}first client of each budget, last round"


def _label_classes(panel: Axes, classes: tuple[str, ...]) -> None:
    if len(classes) > 20:
        panel.set_xlabel("label")
        return
    rotation = 0 if max(map(len, classes)) <= 2 else 45
    align = {"ha": "right", "rotation_mode": "anchor"} if rotation else {}
    panel.set_xticks(range(len(classes)), classes, rotation=rotation, fontsize=7.5, **align)
    if not rotation:
        panel.set_xlabel("label")


def _write_counts(panel: Axes, table: np.ndarray, norm: PowerNorm) -> None:
    for client, row in enumerate(table):
        for label, count in enumerate(row):
            colour = "white" if norm(count) > 0.6 else "0.15" if count else "0.65"
            panel.text(label, client, f"{count}", ha="center", va="center", fontsize=6.5, color=colour)
