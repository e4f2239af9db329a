"""The run of one seed: from the beginning, or from its last checkpoint, to the final model; and the results of all."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from fedmpq.config import Execution
from fedmpq.engine.cell import Cell
from fedmpq.engine.checkpoint import last, save, save_tensors
from fedmpq.engine.executors import build_executor
from fedmpq.engine.hardware import describe, plan
from fedmpq.engine.results import (
    TABLES,
    Row,
    bits_rows,
    git_commit,
    headline,
    read_run,
    read_table,
    round_row,
    summarize,
    to_csv,
)
from fedmpq.federated.server import Federation
from fedmpq.files import exclusive, replacing, write_json, write_text


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

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the completed rounds, by name; there must be one."""
        return {name: read_table(self.folder / name, TABLES[name], size) for name, size in self.last.sizes.items()}

    def past(self) -> Iterator[tuple[Row, list[Row]]]:
        """The rows of rounds.csv and bits.csv of each completed round."""
        if self.last:
            rounds, bits = self.tables().values()
            for number, row in enumerate(rounds.to_dict("records"), 1):
                yield row, bits[bits["round"] == number].to_dict("records")

    @property
    def consensus_file(self) -> Path:
        """What the clients of the last round agreed on, by which bits of that model are allocated; or null."""
        return self.folder / "consensus.json"

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
            consensus = self.last.state.consensus
            write_json(self.consensus_file, consensus and asdict(consensus))
            save_tensors(federation.layout.state_dict(self.last.state.model), self.model_file)


def write_results(runs: Sequence[SeedRun], execution: Execution, folder: Path, held: Sequence[int] = ()) -> None:
    """Write the results of complete runs, a seed each, beside those `held` by `folder`: all files, or none."""
    cell, remainder = runs[0].cell, len(runs[0].last.state.model.remainder)
    seeds = [seed for seed in cell.experiment.partition.seeds if seed in {*held, *(run.seed for run in runs)}]
    count = None if execution.ray_address else plan(cell.setup(runs[0].seed), execution)[0]
    place = {"precision": cell.precision, "executor": execution.executor, "workers": count}
    found = [{name: read_table(folder / name, TABLES[name]) for name in TABLES}] if held else []
    found += [run.tables() for run in runs]
    tables = {name: pd.concat([each[name] for each in found]) for name in TABLES}
    tables = {name: pd.concat([table[table["seed"] == seed] for seed in seeds]) for name, table in tables.items()}
    results = {
        "experiment": cell.name,
        "algorithm": cell.algorithm,
        "alpha": cell.alpha,
        "seeds": seeds,
        "rounds": cell.experiment.training.rounds,
        **summarize(*tables.values(), remainder),
        "hardware": describe(cell.device) | place,
        "commit": git_commit(cell.root),
        "earlier": earlier(folder) if held else {},
        "parameters": cell.flat_parameters,
        "partition": {f"seed-{seed}": cell.partition_hash(seed) for seed in seeds},
        "fingerprint": cell.fingerprint_of(seeds),
    }
    with replacing(folder) as temporary:
        write_json(temporary / "metrics.json", headline(results))
        write_json(temporary / "run.json", results)
        for name, table in tables.items():
            write_text(temporary / name, to_csv(table))


def earlier(folder: Path) -> Row:
    """How the seeds in `folder` were trained: what `earlier` of a `Run` says once others join them."""
    run = read_run(folder)
    origin = {key: run[key] for key in ("hardware", "commit")}
    return {f"seed-{seed}": run["earlier"].get(f"seed-{seed}", origin) for seed in run["seeds"]}
