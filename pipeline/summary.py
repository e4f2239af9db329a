"""Print the summary table of each experiment of params.yaml, and where to look further."""

import argparse
import json
from pathlib import Path

from fedmpq.errors import UserError
from fedmpq.reporting.summary import as_plain_text
from pipeline import command


def read(path: Path) -> str:
    """The table of one experiment.

    Args:
        path: reports/<experiment>/summary.json.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        return as_plain_text(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged; `make repro` makes it") from error


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Print."""
    argparse.ArgumentParser(prog="python -m pipeline.summary", description=__doc__).parse_args(arguments)
    for experiment in command.parameters().experiments:
        folder = command.ROOT / "reports" / experiment
        print(f"\n{experiment}\n\n{read(folder / 'summary.json')}\n\nReport: {(folder / 'report.html').as_uri()}")
    print("MLflow: `make ui`. To compare later runs with these: git add dvc.lock results reports/curves, and commit")


if __name__ == "__main__":
    main()
