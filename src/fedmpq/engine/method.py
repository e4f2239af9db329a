"""The method: the source files that determine a result. All others only carry it out."""

import importlib.util
from modulefinder import ModuleFinder
from pathlib import Path

from fedmpq.errors import UserError
from fedmpq.files import sha256

SOURCE = Path(__file__).parents[2]
ENTRIES = ("fedmpq.federated.server", "fedmpq.federated.worker")
CHECKED_INPUT = ("fedmpq.config", "fedmpq.errors", "fedmpq.files")
"""Modules that the method imports though they determine nothing: parameters are part of a fingerprint by value."""


def method_files(root: Path, algorithm: str, network: str) -> list[Path]:
    """The files that determine results of `algorithm` on `network`, ascending.

    They are what the round loop, the client, the algorithm and a network of the user's own import from this package
    and from the project. Imports are read, nothing is run.

    Args:
        root: folder of the project.
        algorithm: one of `fedmpq.config.ALGORITHM_NAMES`, or `package.module:Class` of the user's own.
        network: `resnet<6n+2>`, or `package.module:factory`.

    Raises:
        UserError: there is no module of that network or algorithm.
    """
    finder = ModuleFinder([str(SOURCE), str(root)], excludes=list(CHECKED_INPUT))
    for name in ENTRIES if ":" in algorithm else (*ENTRIES, f"fedmpq.federated.algorithms.{algorithm}"):
        finder.import_hook(name)
    own = [name.partition(":")[0] for name in (algorithm, network) if ":" in name]
    outside = [file for name in own for file in _scan(finder, name)]
    # The package itself imports nothing: it is where a person's imports start.
    found = [Path(module.__file__) for name, module in finder.modules.items() if module.__file__ and name != "fedmpq"]
    return sorted({*found, *outside})


def _scan(finder: ModuleFinder, name: str) -> list[Path]:
    """Let `finder` follow a module of the user's own; returns its file where it is not part of the project."""
    try:
        finder.import_hook(name)
        return []
    except ImportError:
        pass
    try:
        specification = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot import {name!r}: {error}") from error
    if specification is None or not specification.origin:
        raise UserError(f"cannot import {name!r}: there is no such module")
    return [Path(specification.origin)]


def code_digest(root: Path, algorithm: str, network: str) -> str:
    """Digest of the contents of `method_files`."""
    return sha256(*method_files(root, algorithm, network))
