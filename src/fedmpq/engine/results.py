"""The files of results of a cell: metrics.json, run.json, rounds.csv and bits.csv. Reading them takes no torch."""

import subprocess
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, Field, ValidationError, model_validator

from fedmpq.engine.history import EVENTS, History, Row, summarize
from fedmpq.errors import UserError
from fedmpq.files import replacing, write_json

if TYPE_CHECKING:
    from fedmpq.config import Execution
    from fedmpq.engine.cell import Cell

FILES = ("metrics.json", "run.json", "rounds.csv", "bits.csv")
ROUNDS = {"seed": int, "round": int, "test_accuracy": float, "test_loss": float, "train_loss": float}
ROUNDS |= {"uplink_bytes": int, "downlink_bytes": int, **dict.fromkeys(EVENTS, int)}
ROUNDS |= {"simulated_seconds": float, "seconds": float}
"""Columns of rounds.csv and their types; `device_accuracy` is there if it was asked for."""
BITS = {"seed": int, "round": int, "client": int, "budget": float, "layer": str, "parameters": int}
BITS |= {"bits_given": int, "bits_left": int}
"""Columns of bits.csv and their types."""
COUNTS = defaultdict(lambda: int, seed=int, client=int, label_0=int)
"""Columns of a partition's counts.csv and their types: one more for each further label."""


class Run(BaseModel):
    """run.json. Accuracies are 0 .. 1, bytes are those of one client in one round."""

    experiment: str
    algorithm: str
    alpha: float
    seeds: list[int] = Field(min_length=1)
    rounds: int = Field(ge=1)
    final_accuracy: dict[str, float | None]
    """Mean over the last FINAL_ROUNDS rounds: `mean` and `std` over the seeds, and of `seed-<seed>`."""
    best_accuracy: dict[str, float | None]
    """Likewise, of the best round."""
    average_bits: dict[str, float]
    """Bits per quantized weight, `given` to clients and `left` after pruning; `all`: per value, float32 included."""
    bytes_per_client_and_round: dict[str, float]
    """`uplink`, `downlink`, and `nominal`: bits left x weights alone."""
    seconds_per_round: float
    """Of a median round."""
    hardware: dict[str, Any]
    commit: str | None = None
    """Of the project, if it is a git checkout."""
    parameters: dict[str, Any]
    """All that determine the result, by dotted key."""
    partition: dict[str, str]
    """Digest of the partition of `seed-<seed>`."""
    fingerprint: str

    @model_validator(mode="after")
    def _complete(self) -> "Run":
        seeds = {f"seed-{seed}" for seed in self.seeds}
        needed = {
            "final_accuracy": {"mean", "std", *seeds},
            "best_accuracy": {"mean", "std", *seeds},
            "average_bits": {"given", "left", "all"},
            "bytes_per_client_and_round": {"uplink", "downlink", "nominal"},
            "partition": seeds,
        }
        for name, keys in needed.items():
            if missing := sorted(keys - getattr(self, name).keys()):
                raise ValueError(f"{name}.{missing[0]} is missing")
        return self


def write_results(cell: "Cell", histories: Sequence[History], execution: "Execution", folder: Path) -> None:
    """Write the results of all seeds: all files, or none."""
    from fedmpq.engine.footprint import workers
    from fedmpq.engine.hardware import describe

    count = None if execution.ray_address else workers(cell.setup(histories[0].seed), execution)
    place = {"precision": cell.precision, "executor": execution.executor, "workers": count}
    run = {
        "experiment": cell.name,
        "algorithm": cell.algorithm,
        "alpha": cell.alpha,
        "seeds": [history.seed for history in histories],
        "rounds": cell.experiment.training.rounds,
        **summarize(histories),
        "hardware": describe(cell.device) | place,
        "commit": git_commit(cell.root),
        "parameters": cell.flat_parameters,
        "partition": {f"seed-{history.seed}": cell.partition_hash(history.seed) for history in histories},
        "fingerprint": cell.fingerprint,
    }
    with replacing(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / "metrics.json", headline(run))
        write_json(temporary / "run.json", run)
        _write_table(temporary / "rounds.csv", [row for history in histories for row in history.rounds])
        _write_table(temporary / "bits.csv", [row for history in histories for row in history.bits()])


def headline(run: Row) -> Row:
    """The few numbers of run.json that metrics.json repeats, flat, for `dvc metrics` and `dvc exp` to compare."""
    return {
        "accuracy": run["final_accuracy"]["mean"],
        "accuracy_std": run["final_accuracy"]["std"],
        "best_accuracy": run["best_accuracy"]["mean"],
        "bits": run["average_bits"]["all"],
        "uplink_bytes": run["bytes_per_client_and_round"]["uplink"],
        "seconds": run["seconds_per_round"],
        "commit": run["commit"],
        "hardware": [run["hardware"][key] for key in ("processor", "device")],  # a list: `dvc metrics` shows numbers
    }


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out in `folder`; None: there is no git, or no commit."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "rev-parse", "--verify", "HEAD"]
        return subprocess.check_output(command, cwd=folder, stderr=subprocess.DEVNULL, text=True).strip()
    return None


def read_run(folder: Path) -> Row:
    """All that is known of the results in `folder` but their tables: the keys of `Run`.

    Raises:
        UserError: run.json is missing or damaged.
    """
    path = folder / "run.json"
    try:
        return Run.model_validate_json(path.read_bytes()).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise broken(path, f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()) from error
    except OSError as error:
        raise broken(path, error.strerror or str(error)) from error


def read_table(path: Path, columns: dict[str, type]) -> pd.DataFrame:
    """A table with at least `columns`, of their types. Text is what stands there, be it "5" or "NA".

    Raises:
        UserError: it is missing, damaged or empty, or a value is missing or of another type.
    """
    gaps = {column: ["", "nan"] for column, kind in columns.items() if kind is float}
    try:
        table = pd.read_csv(path, dtype=columns, keep_default_na=False, na_values=gaps)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise broken(path, getattr(error, "strerror", None) or str(error)) from error
    if missing := [column for column in columns if column not in table]:
        raise broken(path, f"column {missing[0]} is missing")
    if table.empty:
        raise broken(path, "it has no rows")
    return table


def broken(path: Path, fault: str) -> UserError:
    """What to raise for a file of results that cannot be used."""
    return UserError(f"{path} is broken: {' '.join(fault.split())}; delete that folder and run `dvc repro` again")


def _write_table(path: Path, rows: list[Row]) -> None:
    pd.DataFrame(rows).to_csv(path, index=False, na_rep="nan", lineterminator="\n")
