"""Networks and algorithms of the user's own, by name."""

from importlib import import_module
from typing import Any

from fedmpq.errors import UserError


def load(name: str, key: str) -> Any:
    """What `name`, package.module:attribute, stands for.

    Args:
        name: as in params.yaml.
        key: of the parameter, for the error message.

    Raises:
        UserError: it cannot be imported, or is nothing that could be called.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # a module of the user's own may raise anything
        raise UserError(f"{key}: cannot import {name!r}: {one_line(error)}") from error
    if not callable(found):
        raise UserError(f"{key}: {name!r} is a {type(found).__name__}; allowed: a function or class to call")
    return found


def one_line(error: Exception) -> str:
    """The type and the words of an error that was not meant for a person."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
