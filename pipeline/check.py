"""Check params.yaml: every key known, of the right type and in range."""

import argparse

from fedmpq.tuning.space import Space
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    argparse.ArgumentParser(prog="python -m pipeline.check", description=__doc__).parse_args(arguments)
    parameters = command.parameters()
    if parameters.tune:
        for name in {parameters.tune.experiment: None, **parameters.tune.overrides}:
            Space(parameters, name)


if __name__ == "__main__":
    main()
