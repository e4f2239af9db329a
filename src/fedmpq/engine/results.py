"""The files of results: metrics.json, rounds.csv and bits.csv of a cell."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from fedmpq.config import Execution
from fedmpq.engine.cell import Cell
from fedmpq.engine.footprint import workers
from fedmpq.engine.hardware import describe
from fedmpq.engine.history import History, Row, summarize
from fedmpq.files import replacing, write_json


def write_results(cell: Cell, histories: Sequence[History], execution: Execution, folder: Path) -> None:
    """Write metrics.json, rounds.csv and bits.csv of all seeds: all three, or none."""
    hardware = {
        **describe(cell.device),
        "precision": cell.precision,
        "executor": execution.executor,
        "workers": None if execution.ray_address else workers(cell.setup(histories[0].seed), execution),
    }
    metrics = {
        "experiment": cell.name,
        "algorithm": cell.algorithm,
        "alpha": cell.alpha,
        "seeds": [history.seed for history in histories],
        "rounds": cell.experiment.training.rounds,
        **summarize(histories),
        "hardware": hardware,
        "parameters": cell.flat_parameters,
        "partition": {f"seed-{history.seed}": cell.partition_hash(history.seed) for history in histories},
        "fingerprint": cell.fingerprint,
    }
    with replacing(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / "metrics.json", metrics)
        _write_csv(temporary / "rounds.csv", [row for history in histories for row in history.rounds])
        _write_csv(temporary / "bits.csv", [row for history in histories for row in history.bits()])


def _write_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())
