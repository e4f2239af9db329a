"""Accuracy of all algorithms over rounds in one table, for `dvc plots`: reports/curves/<experiment>.csv."""

from itertools import product

import pandas as pd

from fedmpq.config import Parameters
from fedmpq.engine.results import ROUNDS, read_table
from fedmpq.errors import UserError
from fedmpq.files import write_text
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Write the table of the algorithms and alphas of params.yaml."""
    write(command.parameters(), command.experiment_option("curves", __doc__, arguments))


def write(parameters: Parameters, name: str) -> None:
    """Write a row for each alpha, algorithm and round: test_accuracy (0 .. 1) is the mean over seeds."""
    parameters.experiment(name)
    tables = []
    for alpha, algorithm in product(map(parameters.alpha_label, parameters.alphas), parameters.algorithms):
        path = command.ROOT / "results" / name / algorithm / f"alpha-{alpha}" / "rounds.csv"
        if path.exists():
            accuracy = read_table(path, ROUNDS).groupby("round", as_index=False)["test_accuracy"].mean()
            tables.append(accuracy.assign(alpha=alpha, algorithm=algorithm))
    if not tables:
        raise UserError(f"results/{name} holds no rounds.csv of these algorithms and alphas; run `dvc repro`")
    table = pd.concat(tables)[["alpha", "algorithm", "round", "test_accuracy"]]
    write_text(command.ROOT / "reports" / "curves" / f"{name}.csv", table.to_csv(index=False))


if __name__ == "__main__":
    main()
