"""Accuracy of all algorithms over rounds in one table, for `dvc plots`: reports/<experiment>/curves.csv."""

import argparse
from pathlib import Path

import pandas as pd

from fedmpq.files import write_text
from pipeline import command


def curves(results: Path) -> pd.DataFrame:
    """One row for each alpha, algorithm and round.

    Args:
        results: results/<experiment>/.

    Returns:
        Columns algorithm, alpha, round, and test_accuracy (0 .. 1) as the mean over seeds.
    """
    tables = []
    for path in sorted(results.glob("*/alpha-*/rounds.csv")):
        accuracy = pd.read_csv(path).groupby("round", as_index=False)["test_accuracy"].mean()
        accuracy.insert(0, "algorithm", path.parts[-3])
        accuracy.insert(1, "alpha", path.parts[-2].removeprefix("alpha-"))
        tables.append(accuracy)
    return pd.concat(tables)


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.curves", description=__doc__)
    parser.add_argument("--experiment", required=True, metavar="NAME", help="a section of params.yaml")
    name = parser.parse_args(arguments).experiment
    command.parameters().experiment(name)
    table = curves(command.ROOT / "results" / name)
    write_text(command.ROOT / "reports" / name / "curves.csv", table.to_csv(index=False))


if __name__ == "__main__":
    main()
