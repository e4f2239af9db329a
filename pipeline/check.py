"""Check params.yaml: every key known, of the right type and in range."""

from fedmpq.tuning.space import Space
from pipeline import command


@command.entry
def main() -> None:
    """Run the stage."""
    parameters = command.parameters()
    if parameters.tune:
        for name in {parameters.tune.experiment, *parameters.tune.overrides}:
            Space(parameters, name)


if __name__ == "__main__":
    main()
