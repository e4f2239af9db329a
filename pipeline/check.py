"""Check params.yaml: every key known, of the right type and in range."""

import argparse

from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    argparse.ArgumentParser(prog="python -m pipeline.check", description=__doc__).parse_args(arguments)
    command.parameters()


if __name__ == "__main__":
    main()
