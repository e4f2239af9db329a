"""Accuracy of all algorithms over rounds in one table, for `dvc plots`: reports/curves/<experiment>.csv."""

from itertools import product
from pathlib import Path

import pandas as pd

from fedmpq.engine.results import ROUNDS, read_table
from fedmpq.files import write_text
from pipeline import command


def curves(results: Path, algorithms: list[str], alphas: list[str]) -> pd.DataFrame:
    """One row for each alpha, algorithm and round.

    Args:
        results: results/<experiment>/.
        algorithms: names of its folders.
        alphas: labels of their folders, `0.5` of `alpha-0.5`.

    Returns:
        Columns alpha, algorithm, round, and test_accuracy (0 .. 1) as the mean over seeds.

    Raises:
        UserError: a table is missing or damaged.
    """
    tables = []
    for alpha, algorithm in product(alphas, algorithms):
        path = results / algorithm / f"alpha-{alpha}" / "rounds.csv"
        accuracy = read_table(path, ROUNDS).groupby("round", as_index=False)["test_accuracy"].mean()
        tables.append(accuracy.assign(alpha=alpha, algorithm=algorithm))
    return pd.concat(tables)[["alpha", "algorithm", "round", "test_accuracy"]]


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    name = command.experiment_option("curves", __doc__, arguments)
    parameters = command.parameters()
    parameters.experiment(name)
    alphas = [parameters.alpha_label(alpha) for alpha in parameters.alphas]
    table = curves(command.ROOT / "results" / name, parameters.algorithms, alphas)
    write_text(command.ROOT / "reports" / "curves" / f"{name}.csv", table.to_csv(index=False))


if __name__ == "__main__":
    main()
