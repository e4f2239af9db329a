"""Stage `report`: figures, tables and the paper's claims of one experiment, in reports/<experiment>/."""

import sys

from fedmpq.config import Parameters
from fedmpq.errors import UserError
from fedmpq.reporting import report
from fedmpq.reporting.summary import as_plain_text
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, write the report, print its summary."""
    experiment = command.experiment_option("report", __doc__, arguments)
    print(as_plain_text(report.write(command.ROOT, command.parameters(), experiment)))
    print(f"\nreport: reports/{experiment}/report.html")


def renew(parameters: Parameters) -> None:
    """Write the reports that are there anew, for what `make tune` or `make bench` has found.

    DVC does not: it knows no dependency that may be absent.
    """
    for name in parameters.sections:
        if (command.ROOT / "reports" / name / "report.md").exists():
            try:
                report.write(command.ROOT, parameters, name)
            except UserError as error:
                print(f"the report on {name} is as it was: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
