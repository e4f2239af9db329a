"""The run of one seed: from the beginning, or from its last checkpoint, to the final model; and the results of all."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from fedmpq.config import Execution
from fedmpq.engine.cell import Cell
from fedmpq.engine.checkpoint import last, save, save_tensors
from fedmpq.engine.executors import build_executor
from fedmpq.engine.hardware import describe, plan
from fedmpq.engine.results import BITS, ROUNDS, Row, bits_rows, headline, read_table, round_row, summarize
from fedmpq.federated.server import Federation
from fedmpq.files import exclusive, replacing, write_json

TABLES = {"rounds.csv": ROUNDS, "bits.csv": BITS}


class SeedRun:
    """A run of `cell` with `seed`, as far as its checkpoints have come."""

    def __init__(self, cell: Cell, seed: int):
        self.cell, self.seed = cell, seed
        self.folder = cell.checkpoints(seed)
        self.last = last(self.folder)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from running the same seed of the same parameters."""
        return exclusive(self.folder / "run.lock", f"{self.folder}")

    @property
    def done(self) -> int:
        """Rounds completed."""
        return self.last.state.round if self.last else 0

    @property
    def model_file(self) -> Path:
        """State dictionary of the final global model, once the run is complete."""
        return self.folder / "model.pt"

    def past(self) -> Iterator[tuple[Row, list[Row]]]:
        """The rows of rounds.csv and bits.csv of each completed round."""
        if self.last:
            sizes = self.last.sizes
            rounds, bits = (read_table(self.folder / name, TABLES[name], sizes[name]) for name in TABLES)
            for number, row in enumerate(rounds.to_dict("records"), 1):
                yield row, bits[bits["round"] == number].to_dict("records")

    def table(self, name: str) -> bytes:
        """The table of the completed rounds as a file of results, of this seed alone."""
        return (self.folder / name).read_bytes()[: self.last.sizes[name]]

    def rounds(self, execution: Execution) -> Iterator[tuple[Row, list[Row]]]:
        """Run what is left and yield each round's rows of rounds.csv and bits.csv, then save it."""
        setup, budgets = self.cell.setup(self.seed), self.cell.experiment.model.budgets
        with build_executor(execution, setup) as executor:
            federation = Federation(setup, executor)
            for record in federation.rounds(self.last and self.last.state):
                row = round_row(self.seed, record, self.last and self.last.row)
                bits = bits_rows(self.seed, record, federation.layout, budgets)
                yield row, bits
                self.last = save(self.folder, record.state, {"rounds.csv": [row], "bits.csv": bits}, self.last)
            save_tensors(federation.layout.state_dict(self.last.state.model), self.model_file)


def write_results(runs: Sequence[SeedRun], execution: Execution, folder: Path) -> None:
    """Write the results of complete runs, one for each seed of a cell: all files, or none."""
    cell, remainder = runs[0].cell, len(runs[0].last.state.model.remainder)
    count = None if execution.ray_address else plan(cell.setup(runs[0].seed), execution)[0]
    place = {"precision": cell.precision, "executor": execution.executor, "workers": count}
    with replacing(folder) as temporary:
        temporary.mkdir()
        for name in TABLES:
            first, *others = (run.table(name) for run in runs)
            (temporary / name).write_bytes(first + b"".join(table.partition(b"\n")[2] for table in others))
        rounds, bits = (read_table(temporary / name, columns) for name, columns in TABLES.items())
        run = {
            "experiment": cell.name,
            "algorithm": cell.algorithm,
            "alpha": cell.alpha,
            "seeds": [run.seed for run in runs],
            "rounds": cell.experiment.training.rounds,
            **summarize(rounds, bits, remainder),
            "hardware": describe(cell.device) | place,
            "parameters": cell.flat_parameters,
            "partition": {f"seed-{run.seed}": cell.partition_hash(run.seed) for run in runs},
            "fingerprint": cell.fingerprint,
        }
        write_json(temporary / "metrics.json", headline(run))
        write_json(temporary / "run.json", run)
