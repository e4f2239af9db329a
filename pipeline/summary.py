"""Print the summary table of each experiment of params.yaml, and where to look further."""

import json

from fedmpq.errors import UserError
from fedmpq.reporting.summary import as_plain_text
from pipeline import command


@command.entry
def main() -> None:
    """Print."""
    for experiment in command.parameters().experiments:
        folder = command.ROOT / "reports" / experiment
        path = folder / "summary.json"
        try:
            table = as_plain_text(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is missing or damaged; `make repro` makes it") from error
        print(f"\n{experiment}\n\n{table}\n\nReport: {(folder / 'report.html').as_uri()}")
    print("MLflow: `make ui`. To compare later runs with these: git add dvc.lock results reports/curves, and commit")


if __name__ == "__main__":
    main()
