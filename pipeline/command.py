"""What the scripts share: where the project is, its parameters, and how errors reach a person."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from fedmpq.config import Parameters, load_parameters
from fedmpq.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def parameters(overrides: dict[str, Any] | None = None) -> Parameters:
    """The checked parameters of params.yaml, with `overrides` by dotted key."""
    return load_parameters(ROOT / "params.yaml", overrides)


def entry(main: Callable[..., None]) -> Callable[..., None]:
    """Turn a UserError of `main` into one line on stderr and exit status 1."""

    @wraps(main)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)

    return run
