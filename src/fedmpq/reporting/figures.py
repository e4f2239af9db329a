"""The figures of a report. Each function draws one from results; `save` makes its PNG, the same bytes each time."""

import math
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import AxesImage
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from fedmpq.files import replacing
from fedmpq.reporting.results import Cell, Results, shown

STYLE = mpl.rc_params_from_file(Path(__file__).with_name("figures.mplstyle"), use_default_template=False)
LITERAL = STYLE | {"text.parse_math": False}
WIDTH = 7.2  # inches; the fonts are chosen for a figure of this width shown as wide as a README
# Okabe and Ito's colours, which differ to colour-blind eyes; line and marker tell the rest apart in grey.
LOOKS = {
    "fp32": ("#000000", (0, (5, 2)), "s"),
    "fpq8": ("#0072B2", (0, (4, 1.5, 1, 1.5)), "^"),
    "aqfl": ("#E69F00", (0, (1.5, 1.2)), "D"),
    "fedmpq": ("#D55E00", "-", "o"),
    "pruning": ("#CC79A7", (0, (3, 1, 1, 1, 1, 1)), "v"),
    "fedmpq_plus": ("#009E73", (0, (6, 1.5)), "P"),
}
OTHER_COLOURS, OTHER_MARKERS = ("#56B4E9", "#B0A000", "#8C564B", "#7F7F7F"), "X*<>phd"
OTHER_LINES = ((0, (2.5, 1)), (0, (1, 2)), (0, (5, 1, 1, 1)))
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
BUDGETS = (2, 4, 6)  # of the supplement's figures 3 and 4
CROWD = 8  # algorithms; bands of more would hide each other
LAYER_HEIGHT = 0.155  # inches
LONGEST_LAYER, LONGEST_CLASS = 60, 20  # characters; what is longer is shown without its middle
CHARACTERS = frozenset(get_font(findfont(STYLE["font.family"][0])).get_charmap())


def accuracy_over_rounds(results: Results) -> Figure:
    """Test accuracy after each round, a panel for each alpha (the supplement's figures 5 to 7)."""
    figure, panels = _accuracy_panels(results, "round")
    for panel in panels.values():
        _round_axis(panel)
    return figure


def accuracy_over_bytes(results: Results) -> Figure:
    """Test accuracy over what the clients have sent up to then, a panel for each alpha."""
    figure, panels = _accuracy_panels(results, "uplink_bytes")
    for panel in panels.values():
        panel.set(xscale="log", xlabel="bytes sent by all clients so far")
        low, high = panel.get_xlim()
        subs = (1, 2, 5) if high < 30 * low else (1, 3) if high < 1000 * low else (1,)
        panel.xaxis.set(major_locator=LogLocator(subs=subs), minor_formatter=NullFormatter())
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    return figure


def bits_per_layer(results: Results, cell: Cell) -> Figure | None:
    """Bits of each layer in the last round for clients of budget 2, 4, 6; None if none has such a budget."""
    clients = {budget: rows for budget in BUDGETS if len(rows := cell.client_bits(budget))}
    if not clients:
        return None
    layers = next(iter(clients.values()))
    seed = f"seed {layers['seed'].min()}, " if len(results.seeds) > 1 else ""
    height = 1 + LAYER_HEIGHT * max(8, len(layers))
    figure, panels = _grid(results, clients, height, f"{seed}first client of each budget, last round")
    for budget, panel in panels.items():
        rows = clients[budget]
        bars = panel.barh(range(len(rows)), rows["bits_given"], height=0.72, color="#0072B2")
        panel.bar_label(bars, padding=1.5, fontsize=6.5, color="0.2")
        panel.axvline(budget, color="#D55E00", linewidth=1, linestyle=(0, (4, 2)))
        panel.set(xlim=(0, 9), xticks=range(0, 9, 2), xlabel="bits")
        panel.grid(axis="y", visible=False)
        average = np.average(rows["bits_given"], weights=rows["parameters"])
        panel.set_title(f"budget {budget} (dashed)\n{average:.2f} bits per weight", loc="left", fontsize=8.5)
    names = [f"{readable(row.layer, LONGEST_LAYER)}  {row.parameters:,}" for row in layers.itertuples()]
    figure.axes[0].set_yticks(range(len(names)), names, fontsize=6.5)
    figure.axes[0].set(ylabel="layer and its number of weights", ylim=(len(names) - 0.4, -0.6))
    figure.suptitle(f"{shown(cell.algorithm)}, {ALPHA} = {cell.alpha:g}", fontsize=10)
    return figure


def average_bits(results: Results) -> Figure | None:
    """Average bits per weight over rounds for each budget: given, and left after pruning. A panel an alpha."""
    alphas = results.common_alphas("fedmpq")
    if not alphas:
        return None
    figure, panels = _grid(results, alphas, 2.6)
    for alpha, panel in panels.items():
        for number, (budget, rows) in enumerate(results.cells["fedmpq", alpha].bits.groupby("budget")):
            weighted = rows[["bits_given", "bits_left"]].mul(rows["parameters"], axis=0).assign(of=rows["parameters"])
            sums = weighted.groupby(rows["round"]).sum()
            style = {"color": f"C{number}", "marker": "" if len(sums) > 1 else "o", "clip_on": False}
            given = {"linestyle": (0, (4, 2)), "linewidth": 1, "fillstyle": "none"}
            panel.plot(sums["bits_given"] / sums["of"], **given, **style)
            panel.plot(sums["bits_left"] / sums["of"], label=f"budget {budget:g}", **style)
        panel.set(title=f"{ALPHA} = {alpha:g}", ylim=(0, 8.4), yticks=range(0, 9, 2))
        _round_axis(panel)
    figure.supylabel("average bits per weight", fontsize=8.5)
    _legend(figure, f"{shown('fedmpq')}: dashed or hollow given, solid left after pruning")
    return figure


def partitions(results: Results) -> Figure | None:
    """Images of each label on each client as heat maps, first seed, one for each alpha (figures 1 and 2)."""
    if not results.partitions:
        return None
    seed = next(iter(results.partitions.values()))["seed"].min()
    of_seed = {alpha: table[table["seed"] == seed] for alpha, table in results.partitions.items()}
    tables = {alpha: table.filter(like="label_").to_numpy() for alpha, table in of_seed.items()}
    clients, labels = next(iter(tables.values())).shape
    note = f"partition of seed {seed}; all panels share one scale of colour"
    figure, panels = _grid(results, tables, min(0.22 * clients, 4) + 0.75, note, columns=2, trained=False)
    norm = PowerNorm(0.6, 0, max(table.max() for table in tables.values()))
    for alpha, panel in panels.items():
        image = _heat_map(panel, tables[alpha], norm, numbers=labels <= 12 and clients <= 20)
        panel.set_title(f"{ALPHA} = {alpha:g}")
        panel.yaxis.set_major_locator(MaxNLocator(min(clients, 10), integer=True))
        _label_classes(panel, results.classes)
    figure.supylabel("client", fontsize=8.5)
    figure.colorbar(image, ax=figure.axes, label="images", shrink=0.6, aspect=30, pad=0.02).outline.set_visible(False)
    return figure


def draw_all(results: Results) -> dict[str, Figure]:
    """Every figure that the results have the data for, by file name without ending, in the report's order."""
    with mpl.rc_context(LITERAL):
        figures = {
            "accuracy-over-rounds": accuracy_over_rounds(results),
            "accuracy-over-bytes": accuracy_over_bytes(results),
        }
        for name, mark in (("fedmpq", ""), ("fedmpq_plus", "-plus")):
            for alpha in results.common_alphas(name):
                figures[f"bits-per-layer{mark}-alpha-{alpha:g}"] = bits_per_layer(results, results.cells[name, alpha])
        figures |= {"average-bits": average_bits(results), "partitions": partitions(results)}
    return {name: figure for name, figure in figures.items() if figure}


def bits_heat_map(bits: pd.DataFrame) -> Figure:
    """Bits that each client (columns) was given for each layer (rows) in the last round of `bits`, of one seed."""
    last = bits[bits["round"] == bits["round"].max()]
    table = last.pivot(index="layer", columns="client", values="bits_given").loc[last["layer"].unique()]
    clients = [f"{row.client} ({row.budget:g})" for row in last.drop_duplicates("client").itertuples()]
    names = [readable(layer, LONGEST_LAYER) for layer in table.index]
    width = 1.2 + 0.06 * max(map(len, names)) + min(0.2 * len(clients), 10)
    with mpl.rc_context(LITERAL):
        figure = Figure(figsize=(max(4, width), 1.3 + LAYER_HEIGHT * len(names)), layout="constrained")
        axes, scale = figure.subplots(), Normalize(0, max(8, table.max().max()))
        image = _heat_map(axes, table.to_numpy(), scale, numbers=len(clients) <= 50)
        figure.colorbar(image, label="bits", pad=0.01, aspect=40).outline.set_visible(False)
        axes.set_yticks(range(len(names)), names, fontsize=6.5)
        if len(clients) <= 100:
            axes.set_xticks(range(len(clients)), clients, rotation=90, fontsize=6.5)
        axes.set(xlabel="client (budget)", ylabel="layer", title=f"bits given in round {last['round'].max()}")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG of 256 colours (a third of the bytes), the same each time: no date, no version."""
    with mpl.rc_context(STYLE):
        (canvas := FigureCanvasAgg(figure)).draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with replacing(path) as temporary:
        image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1).save(temporary, format="PNG", optimize=True)


def look(algorithm: str, algorithms: Sequence[str]) -> dict:
    """Colour, line and marker of `algorithm`; those that LOOKS does not know take turns at the others."""
    others = [name for name in algorithms if name not in LOOKS]
    turn = 0 if algorithm in LOOKS else others.index(algorithm)
    other = (turns[turn % len(turns)] for turns in (OTHER_COLOURS, OTHER_LINES, OTHER_MARKERS))
    colour, line, marker = LOOKS.get(algorithm) or other
    return {"color": colour, "linestyle": line, "marker": marker, "label": shown(algorithm)}


def readable(text: str, longest: int | None = None) -> str:
    """`text` with escapes for characters that the figures' font lacks; without its middle where it is too long."""
    text = "".join(c if ord(c) in CHARACTERS else c.encode("unicode_escape").decode() for c in text)
    if longest is None or len(text) <= longest:
        return text
    return f"{text[: longest // 3]}…{text[longest // 3 + 1 - longest :]}"


def _heat_map(panel: Axes, table: np.ndarray, norm: Normalize, numbers: bool) -> AxesImage:
    """Draw `table` in shades of blue, with its `numbers` in the cells if so asked."""
    image = panel.imshow(table, cmap="Blues", norm=norm, aspect="auto")
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(table) if numbers else ():
        colour = "white" if norm(value) > 0.6 else "0.15" if value else "0.65"
        number = panel.text(column, row, f"{value:g}", ha="center", va="center", fontsize=6.5, color=colour)
        number.set_in_layout(False)  # Inside its cell; measuring all of them takes as long as drawing them.
    return image


def _accuracy_panels(results: Results, over: str) -> tuple[Figure, dict[float, Axes]]:
    """Panels of test accuracy over a column of rounds.csv, with bands over the seeds and the level of chance."""
    bands = len(results.seeds) > 1 and len(results.algorithms) <= CROWD
    note = "band: lowest to highest of the seeds" if bands else ""
    figure, panels = _grid(results, dict.fromkeys(cell.alpha for cell in results.cells.values()), 2.75, note)
    for (algorithm, alpha), cell in results.cells.items():
        style, curve = look(algorithm, results.algorithms), 100 * cell.curve("test_accuracy")
        x, panel = cell.curve(over)["mean"], panels[alpha]
        # The last point and about five more, not those of another algorithm, which they might hide.
        last, step = len(curve) - 1, math.ceil(len(curve) / 6)
        marked = [*range(results.algorithms.index(algorithm) % step, last, step), last]
        panel.plot(x, curve["mean"], markevery=marked, clip_on=False, **style)
        if bands:
            panel.fill_between(x, curve["min"], curve["max"], color=style["color"], alpha=0.14, linewidth=0)
    for alpha, panel in panels.items():
        if results.classes:
            level = 100 / len(results.classes)
            panel.axhline(level, color="0.5", linewidth=0.8, linestyle=":", label=f"chance ({level:.3g} %)")
        panel.set_title(f"{ALPHA} = {alpha:g}")
    figure.axes[0].set_ylim(0, 1.05 * max(panel.dataLim.y1 for panel in panels.values()))
    figure.supylabel("test accuracy (%)", fontsize=8.5)
    _legend(figure)
    return figure, panels


def _round_axis(panel: Axes) -> None:
    panel.set_xlabel("round")
    panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def _grid(
    results: Results, keys: Collection[float], height: float, note: str = "", columns: int = 3, trained: bool = True
) -> tuple[Figure, dict[float, Axes]]:
    """A panel for each key, `height` inches high, with one scale of y, above small print that says what it is of."""
    columns = 2 if len(keys) == 4 else min(len(keys), columns)
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for panel in panels[len(keys) :]:
        panel.set_axis_off()
    settings, source = results.settings, results.settings.data.source
    parts = [results.experiment, f"data {source}" if source != results.experiment else ""]
    if trained:
        parts += [settings.model.network, results.seeding, results.duration, *results.hardware]
    small_print = textwrap.fill(readable("  ·  ".join(filter(None, [*parts, note]))), 165)
    figure.supxlabel(small_print, fontsize=6.5, color="0.4", x=0.01, ha="left")
    return figure, dict(zip(keys, panels, strict=False))


def _legend(figure: Figure, title: str | None = None) -> None:
    """One legend above all panels, with each label once."""
    entries = {line.get_label(): line for panel in figure.axes for line in panel.get_legend_handles_labels()[0]}
    labels = sorted(entries, key=lambda label: label.startswith("chance"))
    longest = max(map(len, labels))
    most = 6 if longest < 14 else max(1, 112 // (longest + 10))
    rows = math.ceil(len(labels) / most)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, rows - 2))
    columns = math.ceil(len(labels) / rows)
    figure.legend([entries[label] for label in labels], labels, loc="outside upper center", ncols=columns, title=title)


def _label_classes(panel: Axes, classes: list[str]) -> None:
    """Name the labels where there are few; one whose name the font cannot draw keeps its number."""
    if not 0 < len(classes) <= 20:
        panel.set_xlabel("label")
        return
    names = [readable(name, LONGEST_CLASS) if readable(name) == name else str(n) for n, name in enumerate(classes)]
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 2 else {}
    panel.set_xticks(range(len(names)), names, fontsize=7.5, **slanted)
    panel.set_xlabel("" if slanted else "label")
