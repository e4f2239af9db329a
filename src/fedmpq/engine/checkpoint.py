"""What a run needs to go on after it was killed: its state, and tables to which each round's rows are appended."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pandas as pd
import torch

from fedmpq.engine.results import Row, to_csv
from fedmpq.errors import UserError
from fedmpq.federated.allocation import Consensus
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.server import ServerState
from fedmpq.files import write_bytes

KEPT = 2


def fingerprint(content: dict[str, Any]) -> str:
    """Hexadecimal digest of a JSON-like dictionary, the same for the same content in any order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values, for `torch.load(weights_only=True)`, as a whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


@dataclass(frozen=True)
class Checkpoint:
    """The end of a round."""

    state: ServerState
    row: Row
    """Of rounds.csv."""
    sizes: dict[str, int]
    """How many bytes of each table, by its name, are of the rounds so far; what follows is of one that was cut off."""


def save(folder: Path, state: ServerState, tables: dict[str, list[Row]], before: Checkpoint | None) -> Checkpoint:
    """Append a round's rows to the tables in `folder`, by name, as they were at `before`; then write a checkpoint.

    The last two are kept, each a whole file.
    """
    sizes = before.sizes if before else dict.fromkeys(tables, 0)
    sizes = {name: _append(folder / name, sizes[name], rows) for name, rows in tables.items()}
    checkpoint = Checkpoint(state, tables["rounds.csv"][-1], sizes)
    save_tensors(asdict(checkpoint), folder / f"round-{state.round:06}.pt")
    for old in _saved(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return checkpoint


def last(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in `folder` that can be read and whose rows are there, or None."""
    for path in reversed(_saved(folder)):
        try:
            checkpoint = _read(path)
            if all((folder / name).stat().st_size >= size for name, size in checkpoint.sizes.items()):
                return checkpoint
        except (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError):
            continue
    return None


def clear(folder: Path) -> None:
    """Forget the rounds of a run whose results are written."""
    for old in [*_saved(folder), *folder.glob("*.csv")]:
        old.unlink(missing_ok=True)


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("round-*.pt"))


def _append(path: Path, size: int, rows: list[Row]) -> int:
    """Let `rows` follow the first `size` bytes of a table; returns how many there are then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(size)
            return size + file.write(to_csv(pd.DataFrame(rows), header=size == 0).encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _read(path: Path) -> Checkpoint:
    content = torch.load(path, weights_only=True)
    state = content.pop("state")
    model, consensus = FlatModel(**state["model"]), state["consensus"] and Consensus(**state["consensus"])
    return Checkpoint(ServerState(state["round"], model, consensus), **content)
