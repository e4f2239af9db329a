"""The bit allocation of one run as a picture, for the tracking UI."""

import matplotlib as mpl
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fedmpq.reporting.figures import LAYER_HEIGHT, LONGEST_LAYER, STYLE, heat_map
from fedmpq.reporting.fonts import plain, readable


def bits_heat_map(bits: pd.DataFrame) -> Figure:
    """Bits that each client (columns) was given for each layer (rows) in the last round.

    Args:
        bits: rows of bits.csv of one seed.
    """
    last = bits[bits["round"] == bits["round"].max()]
    table = last.pivot(index="layer", columns="client", values="bits_given").loc[last["layer"].unique()]
    budgets = last.groupby("client")["budget"].first()
    names = [readable(layer, LONGEST_LAYER) for layer in table.index]
    width = 1.2 + 0.06 * max(map(len, names)) + min(0.2 * len(budgets), 10)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4, width), 1.3 + LAYER_HEIGHT * len(names)), layout="constrained")
        axes = figure.subplots()
        scale = Normalize(0, max(8, table.max().max()))
        image = heat_map(axes, table.to_numpy(), scale, numbers=len(budgets) <= 50)
        figure.colorbar(image, label="bits", pad=0.01, aspect=40).outline.set_visible(False)
        axes.set_yticks(range(len(names)), names, fontsize=6.5)
        if len(budgets) <= 100:
            clients = [f"{client} ({budget:g})" for client, budget in budgets.items()]
            axes.set_xticks(range(len(clients)), clients, rotation=90, fontsize=6.5)
        axes.set(xlabel="client (budget)", ylabel="layer", title=f"bits given in round {last['round'].max()}")
    return plain(figure)
