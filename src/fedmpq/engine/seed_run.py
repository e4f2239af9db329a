"""The run of one seed: from the beginning, or from its last checkpoint, to the final model."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from fedmpq.config import Execution
from fedmpq.engine.cell import Cell
from fedmpq.engine.checkpoint import Checkpoint, save_tensors
from fedmpq.engine.executors import build_executor
from fedmpq.engine.history import History, Row
from fedmpq.federated.server import Federation, ServerState
from fedmpq.files import exclusive, write_json


class SeedRun:
    """A run of `cell` with `seed`, as far as its checkpoints have come."""

    def __init__(self, cell: Cell, seed: int):
        self.cell, self.seed = cell, seed
        self.folder = cell.checkpoints(seed)
        last = self.folder.last()
        self.history = last.history if last else None
        self._state = last.state if last else None

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from running the same seed of the same parameters."""
        return exclusive(self.folder.folder / "run.lock", f"{self.folder.folder}")

    @property
    def done(self) -> int:
        """Rounds completed."""
        return self._state.round if self._state else 0

    @property
    def model_file(self) -> Path:
        """State dictionary of the final global model, once the run is complete."""
        return self.folder.folder / "model.pt"

    @property
    def consensus_file(self) -> Path:
        """What the clients of the last round agreed on, by which bits of that model are allocated; or null."""
        return self.folder.folder / "consensus.json"

    def rounds(self, execution: Execution) -> Iterator[tuple[Row, list[Row]]]:
        """Run what is left and yield each round's rows of rounds.csv and bits.csv, then save it."""
        setup = self.cell.setup(self.seed)
        with build_executor(execution, setup) as executor:
            federation = Federation(setup, executor)
            layout = federation.layout
            budgets, rest = self.cell.experiment.model.budgets, layout.remainder_size
            self.history = self.history or History(self.seed, budgets, layout.layers, layout.sizes, remainder=rest)
            self._save(self._state or federation.initial)
            for record in federation.rounds(self._state):
                self.history.append(record)
                yield self.history.rounds[-1], list(self.history.bits(record.round))
                self._save(record.state)
            save_tensors(layout.state_dict(self._state.model), self.model_file)
            consensus = self._state.consensus
            write_json(self.consensus_file, consensus and asdict(consensus))

    def _save(self, state: ServerState) -> None:
        self._state = state
        self.folder.save(Checkpoint(state, self.history))
