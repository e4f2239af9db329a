"""Results of earlier code that the present code repeats: a change that leaves them as they are need not cost them."""

from itertools import islice
from pathlib import Path

import pandas as pd

from fedmpq.config import Execution
from fedmpq.engine.cell import Cell
from fedmpq.engine.executors import build_executor
from fedmpq.engine.results import TABLES, bits_rows, git_commit, read_run, read_table, round_row, to_csv
from fedmpq.errors import UserError
from fedmpq.federated.server import Federation
from fedmpq.files import write_json


def confirm(cell: Cell, execution: Execution, folder: Path, rounds: int) -> None:
    """Train the first `rounds` rounds of each seed in `folder` again; if nothing differs, the results become `cell`'s.

    run.json then says by which commit they were confirmed, beside the one that they are of, and names parameters that
    have been added since. What happens in later rounds alone is not looked at.

    Raises:
        UserError: they are of other parameters or partitions, or a number differs.
    """
    found = read_run(folder)
    seeds, partition = found["seeds"], {f"seed-{seed}": cell.partition_hash(seed) for seed in found["seeds"]}
    if cell.flat_parameters | found["parameters"] != cell.flat_parameters or found["partition"] != partition:
        raise UserError(f"{folder} holds results of other parameters or partitions, which cannot be confirmed")
    tables = {name: read_table(folder / name, columns) for name, columns in TABLES.items()}
    for seed in seeds:
        again = _first_rounds(cell, seed, execution, rounds)
        for name, table in tables.items():
            first = table[(table["seed"] == seed) & (table["round"] <= rounds)]
            if _text(first) != _text(again[name]):
                raise UserError(f"{folder}: this code finds another {name} for seed {seed}; --overwrite trains anew")
    confirmed = {"commit": git_commit(cell.root), "rounds": rounds}
    present = {"parameters": cell.flat_parameters, "fingerprint": cell.fingerprint_of(seeds), "confirmed": confirmed}
    write_json(folder / "run.json", found | present)


def _first_rounds(cell: Cell, seed: int, execution: Execution, rounds: int) -> dict[str, pd.DataFrame]:
    setup, budgets, rows, bits = cell.setup(seed), cell.experiment.model.budgets, [], []
    with build_executor(execution, setup) as executor:
        federation = Federation(setup, executor)
        for record in islice(federation.rounds(), rounds):
            rows.append(round_row(seed, record, rows[-1] if rows else None))
            bits += bits_rows(seed, record, federation.layout, budgets)
    return dict(zip(TABLES, map(pd.DataFrame, (rows, bits)), strict=True))


def _text(table: pd.DataFrame) -> str:
    return to_csv(table.drop(columns="seconds", errors="ignore"))
