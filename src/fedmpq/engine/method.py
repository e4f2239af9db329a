"""The method: the source files that determine a result. All others only carry it out."""

import ast
from functools import cache
from importlib.util import find_spec, resolve_name
from itertools import accumulate
from pathlib import Path

from fedmpq.errors import UserError
from fedmpq.files import sha256

SOURCE = Path(__file__).parents[2]
"""The folder from which this package is imported."""
ENTRIES = ("fedmpq.federated.server", "fedmpq.federated.worker")
CHECKED_INPUT = ("fedmpq.config", "fedmpq.errors", "fedmpq.files")
"""Modules that the method imports though they determine nothing: parameters are part of a fingerprint by value."""
LIBRARIES = {"site-packages", "dist-packages"}


def method_files(algorithm: str, network: str) -> dict[str, Path]:
    """The files that determine results of `algorithm` (its `of`) on `network`, by module, ascending.

    They are what the round loop, the client, the algorithm and the network import from this package and, if they are
    the user's own (`package.module:name`), from where they are. Imports are read, nothing is run.

    Raises:
        UserError: there is no such module, or it is no Python.
    """
    ours = [] if ":" in algorithm else [f"fedmpq.federated.algorithms.{algorithm}"]
    found = _closure([*ENTRIES, *ours], [])
    for key, name in (("of", algorithm), ("model.network", network)):
        found |= _own_files(name.partition(":")[0], key) if ":" in name else {}
    return dict(sorted(found.items()))


def code_digest(algorithm: str, network: str) -> str:
    """Digest of the contents of `method_files`."""
    return sha256(*method_files(algorithm, network).values())


def _own_files(module: str, key: str) -> dict[str, Path]:
    """A module that the parameter `key` names, and what it imports from beside it; of a library that module alone."""
    try:
        top = find_spec(module.partition(".")[0]) if module else None
        places = (top.submodule_search_locations or [top.origin]) if top else []
        folders = [Path(place).parent for place in places]
        file = _file(module, folders)
        if file is None:
            raise ImportError("there is no such module")
        return {module: file} if LIBRARIES.intersection(file.parts) else _closure([module], folders)
    except (ImportError, SyntaxError, ValueError) as error:
        raise UserError(f"{key}: cannot import {module!r}: {error}") from error


def _closure(pending: list[str], folders: list[Path]) -> dict[str, Path]:
    """The files of the modules `pending` and of all that they import, by module."""
    found = {}
    while pending:
        # A module's packages are imported before it.
        for name in accumulate(pending.pop().split("."), "{}.{}".format):
            file = _file(name, folders)
            if file and name not in found and not name.startswith(CHECKED_INPUT):
                found[name] = file
                pending += _imports(name, file, file.read_bytes())
    return found


def _file(name: str, folders: list[Path]) -> Path | None:
    """The source file of a module of this package or below `folders`; None: it is none of them."""
    for folder in [SOURCE] if name.startswith("fedmpq.") else folders:
        place = folder.joinpath(*name.split("."))
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                return file
    return None


@cache
def _imports(name: str, file: Path, source: bytes) -> list[str]:
    """Names that module `name` of that file and source imports, some of which may be no modules."""
    package, found = name if file.name == "__init__.py" else name.rpartition(".")[0], []
    for node in ast.walk(ast.parse(source, str(file))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found
