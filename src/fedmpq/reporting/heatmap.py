"""The bit allocation of one run as a picture, for the tracking UI."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from fedmpq.reporting.figures import STYLE


def bits_heat_map(bits: pd.DataFrame) -> Figure:
    """Bits that each client (rows) was given for each layer (columns) in the last round.

    Args:
        bits: rows of bits.csv of one seed.
    """
    last = bits[bits["round"] == bits["round"].max()]
    layers, clients = last["layer"].unique(), sorted(last["client"].unique())
    table = last.pivot(index="client", columns="layer", values="bits_given").loc[clients, layers]
    budgets = last.groupby("client")["budget"].first().loc[clients]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 + 0.32 * len(layers), 1.3 + 0.24 * min(len(clients), 60)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(table, cmap="Blues", vmin=0, vmax=max(8, table.max().max()), aspect="auto")
        axes.grid(visible=False)
        axes.set_xticks(range(len(layers)), layers, rotation=90, fontsize=7)
        axes.set(xlabel="layer", ylabel="client (budget)", title=f"bits given in round {last['round'].max()}")
        if len(clients) <= 60:
            axes.set_yticks(range(len(clients)), [f"{c} ({budgets[c]:g})" for c in clients], fontsize=7)
            for row, values in enumerate(table.to_numpy()):
                for column, value in enumerate(values):
                    colour = "white" if value > 5 else "0.2"
                    axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=6.5, color=colour)
    return figure
