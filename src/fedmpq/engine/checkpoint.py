"""What a run needs to go on after it was killed: one file a round, the last two kept."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from fedmpq.engine.history import History
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
    history: History


class CheckpointFolder:
    """The checkpoints of one run, in a folder named after everything that determines its result."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint as a whole, then remove all but the last two."""
        state = checkpoint.state
        content = {
            "round": state.round,
            "weights": state.model.weights,
            "remainder": state.model.remainder,
            "consensus": asdict(state.consensus) if state.consensus else None,
            "history": asdict(checkpoint.history),
        }
        save_tensors(content, self._path(state.round))
        for old in self._saved()[:-KEPT]:
            old.unlink(missing_ok=True)

    def last(self) -> Checkpoint | None:
        """The newest checkpoint that can be read, or None."""
        for path in reversed(self._saved()):
            try:
                return self._read(path)
            except (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError):
                continue
        return None

    @staticmethod
    def _read(path: Path) -> Checkpoint:
        content = torch.load(path, weights_only=True)
        consensus = content["consensus"] and Consensus(**content["consensus"])
        state = ServerState(content["round"], FlatModel(content["weights"], content["remainder"]), consensus)
        return Checkpoint(state, History(**content["history"]))

    def clear(self) -> None:
        """Forget the rounds of a run whose results are written."""
        for old in self._saved():
            old.unlink(missing_ok=True)

    def _path(self, round: int) -> Path:
        return self.folder / f"round-{round:06}.pt"

    def _saved(self) -> list[Path]:
        return sorted(self.folder.glob("round-*.pt"))
