"""Stage `report`: figures, tables and the paper's claims of one experiment, in reports/<experiment>/."""

import argparse

from fedmpq.reporting import report
from fedmpq.reporting.summary import as_plain_text
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, write the report, print its summary."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__)
    parser.add_argument("--experiment", required=True, help="a section of params.yaml, e.g. digits")
    experiment = parser.parse_args(arguments).experiment
    print(as_plain_text(report.write(command.ROOT, command.parameters(), experiment)))
    print(f"\nreport: reports/{experiment}/report.html")


if __name__ == "__main__":
    main()
