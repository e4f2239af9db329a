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

from fedmpq.engine.history import Row
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


class CheckpointFolder:
    """The last two checkpoints of one run and its tables, in a folder named after all that determines its result."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, state: ServerState, tables: dict[str, list[Row]], before: Checkpoint | None) -> Checkpoint:
        """Append a round's rows to `tables`, by name, as they were at `before`; then write a checkpoint as a whole."""
        sizes = {
            name: _append(self.folder / name, before.sizes[name] if before else 0, rows)
            for name, rows in tables.items()
        }
        checkpoint = Checkpoint(state, tables["rounds.csv"][-1], sizes)
        content = {
            "round": state.round,
            "weights": state.model.weights,
            "remainder": state.model.remainder,
            "consensus": asdict(state.consensus) if state.consensus else None,
            "row": checkpoint.row,
            "sizes": sizes,
        }
        save_tensors(content, self.folder / f"round-{state.round:06}.pt")
        for old in self._saved()[:-KEPT]:
            old.unlink(missing_ok=True)
        return checkpoint

    def last(self) -> Checkpoint | None:
        """The newest checkpoint that can be read and whose rows are there, or None."""
        for path in reversed(self._saved()):
            try:
                checkpoint = self._read(path)
                if all((self.folder / name).stat().st_size >= size for name, size in checkpoint.sizes.items()):
                    return checkpoint
            except (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError):
                continue
        return None

    @staticmethod
    def _read(path: Path) -> Checkpoint:
        content = torch.load(path, weights_only=True)
        consensus = content["consensus"] and Consensus(**content["consensus"])
        state = ServerState(content["round"], FlatModel(content["weights"], content["remainder"]), consensus)
        return Checkpoint(state, content["row"], content["sizes"])

    def clear(self) -> None:
        """Forget the rounds of a run whose results are written."""
        for old in [*self._saved(), *self.folder.glob("*.csv")]:
            old.unlink(missing_ok=True)

    def _saved(self) -> list[Path]:
        return sorted(self.folder.glob("round-*.pt"))


def _append(path: Path, size: int, rows: list[Row]) -> int:
    """Let `rows` follow the first `size` bytes of a table; returns how many there are then."""
    header = size == 0
    content = pd.DataFrame(rows).to_csv(header=header, index=False, na_rep="nan", lineterminator="\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(size)
            file.write(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return size + len(content)
