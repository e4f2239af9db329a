"""Stage `report`: figures, tables and the paper's claims of one experiment, in reports/<experiment>/.

With --all: of every experiment whose results are in git, and what they show together, in reports/ and README.md.
"""

import argparse
import sys

from fedmpq.config import Parameters
from fedmpq.data.sources import above_raw
from fedmpq.errors import UserError
from fedmpq.reporting import overview, report
from fedmpq.reporting.summary import as_plain_text
from pipeline import command, curves


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, write the reports, print their summary."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--experiment", metavar="NAME", help="a section of params.yaml")
    what.add_argument("--all", action="store_true", help="all whose results are in git")
    options, parameters = parser.parse_args(arguments), command.parameters()
    found = overview.committed(command.ROOT, parameters) if options.all else {options.experiment: parameters}
    for name, own in found.items():
        if options.all:
            make_inputs(own, name)
            curves.write(own, name)
        print(as_plain_text(report.write(command.ROOT, own, name)))
        print(f"\nreport: reports/{name}/report.html")
    if options.all:
        overview.write(command.ROOT, overview.read(command.ROOT, parameters))
        print("all: reports/README.md and README.md; results that are not in git are left out")


def make_inputs(parameters: Parameters, name: str) -> None:
    """Prepare the images of an experiment, if they lie here, and divide them, for what the report shows of them."""
    from pipeline import partition, prepare  # only where they are needed: they take seconds

    source = parameters.experiment(name).data.source
    if (above_raw(command.ROOT, source) / "raw" / source).exists():
        try:
            if not (command.ROOT / "data/prepared" / name).exists():
                prepare.write(parameters, name)
            partition.write(parameters, name)  # again: those that are there may be of fewer alphas or seeds
        except UserError as error:
            print(f"the report on {name} does without its data: {error}", file=sys.stderr)


def renew(parameters: Parameters) -> None:
    """Write the reports that are there anew, for what `make tune` or `make bench` has found.

    DVC does not: it knows no dependency that may be absent.
    """
    for name in parameters.sections:
        if (command.ROOT / "reports" / name / "report.md").exists():
            try:
                listed = name in parameters.experiments
                found = {} if listed else overview.committed(command.ROOT, parameters)
                report.write(command.ROOT, found.get(name, parameters), name)
            except UserError as error:
                print(f"the report on {name} is as it was: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
