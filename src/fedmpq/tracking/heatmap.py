"""The bit allocation of one run as a picture: clients down, layers across."""

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHITE_BELOW = 0.55  # of the colour scale: where it is dark


def bits_heatmap(bits: pd.DataFrame) -> "Figure":
    """Bits that each client was given for each layer in the last round it took part in.

    Args:
        bits: rows of bits.csv of one seed.
    """
    from matplotlib.figure import Figure

    last = bits[bits["round"] == bits.groupby("client")["round"].transform("max")]
    table = last.pivot(index=["client", "budget"], columns="layer", values="bits_given")[last["layer"].unique()]
    clients, layers = table.shape
    highest = max(8, table.to_numpy().max())
    width, height = 2 + 0.42 * layers, 1.2 + 0.3 * clients
    figure = Figure(figsize=(width, height), dpi=100)
    # Margins in inches: matplotlib's own layout takes as long again as the drawing.
    axes = figure.add_axes((1 / width, 0.75 / height, 1 - 1.1 / width, 1 - 1.1 / height))
    axes.imshow(table, cmap="cividis", vmin=1, vmax=highest, aspect="auto")
    axes.set_xticks(range(layers), table.columns, rotation=90, fontsize=8)
    axes.set_yticks(range(clients), [f"{client}  ({budget:g})" for client, budget in table.index], fontsize=8)
    axes.set_xlabel("layer")
    axes.set_ylabel("client (budget)")
    axes.set_title("Bits given in the last round", fontsize=10)
    for row, column in ((row, column) for row in range(clients) for column in range(layers)):
        value = table.iat[row, column]
        colour = "white" if value < WHITE_BELOW * highest else "black"
        axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=8, color=colour)
    return figure
