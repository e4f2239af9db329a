"""What the scripts share: where the project is, its parameters, options, and how errors reach a person."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from fedmpq.config import Parameters, load_parameters
from fedmpq.config.fold import fold
from fedmpq.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def parameters(overrides: dict[str, Any] | None = None) -> Parameters:
    """The checked parameters of params.yaml, with `overrides` by dotted key.

    Within `dvc exp run` the file is brought back into its form: see `fedmpq.config.fold`.
    """
    path = ROOT / "params.yaml"
    found = load_parameters(path, overrides)
    if os.environ.get("DVC_EXP_NAME"):
        fold(path)
    return found


def experiment_option(script: str, description: str | None, arguments: list[str] | None) -> str:
    """The value of --experiment, the one option of a stage that works on a whole experiment."""
    parser = argparse.ArgumentParser(prog=f"python -m pipeline.{script}", description=description)
    parser.add_argument("--experiment", required=True, metavar="NAME", help="a section of params.yaml")
    return parser.parse_args(arguments).experiment


def count(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: whole numbers from {least}")
        return int(text)

    return parse


def entry(main: Callable[..., None]) -> Callable[..., None]:
    """Turn a UserError of `main` into one line on stderr and exit status 1; let SIGTERM end it as Ctrl-C does."""

    @wraps(main)
    def run(*args: Any, **kwargs: Any) -> None:
        with suppress(ValueError):  # outside the main thread signals are not ours
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)

    return run
