"""The results of a cell: rounds.csv and bits.csv, and run.json and metrics.json, which sum them up. Takes no torch."""

import subprocess
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, Field, ValidationError, model_validator

from fedmpq.errors import UserError

if TYPE_CHECKING:
    from fedmpq.federated.layout import Layout
    from fedmpq.federated.server import RoundRecord

Row = dict[str, Any]
FULL_PRECISION = 32
FINAL_ROUNDS = 5
FILES = ("metrics.json", "run.json", "rounds.csv", "bits.csv")
EVENTS = ("asked", "answered", "dropped", "late", "rejected", "failed", "discarded")
"""How many clients met which fate in a round; discarded are the answers of attempts that were repeated."""
ROUNDS = {"seed": int, "round": int, "test_accuracy": float, "test_loss": float, "train_loss": float}
ROUNDS |= {"uplink_bytes": int, "downlink_bytes": int, **dict.fromkeys(EVENTS, int)}
ROUNDS |= {"simulated_seconds": float, "seconds": float}
"""Columns of rounds.csv and their types; `device_accuracy` is there if it was asked for, NaN in the rounds before."""
BITS = {"seed": int, "round": int, "client": int, "budget": float, "layer": str, "parameters": int}
BITS |= {"bits_given": int, "bits_left": int}
"""Columns of bits.csv and their types."""
TABLES = {"rounds.csv": ROUNDS, "bits.csv": BITS}
COUNTS = defaultdict(lambda: int, seed=int, client=int, label_0=int)
"""Columns of a partition's counts.csv and their types: one more for each further label."""


def round_row(seed: int, record: "RoundRecord", before: Row | None) -> Row:
    """The row of rounds.csv that follows `before`; its bytes are sums over all clients and all rounds so far."""
    before, exchange = before or {"uplink_bytes": 0, "downlink_bytes": 0}, record.exchange
    row = {
        "seed": seed,
        "round": record.round,
        "test_accuracy": record.accuracy,
        "test_loss": record.loss,
        "train_loss": record.train_loss,
        "uplink_bytes": before["uplink_bytes"] + exchange.uplink_bytes,
        "downlink_bytes": before["downlink_bytes"] + exchange.downlink_bytes,
        **{event: exchange.counts[event] for event in EVENTS},
        "simulated_seconds": exchange.simulated_seconds,
        "seconds": round(record.seconds, 3),
    }
    return row if record.device_accuracy is None else row | {"device_accuracy": record.device_accuracy}


def bits_rows(seed: int, record: "RoundRecord", layout: "Layout", budgets: Sequence[float]) -> list[Row]:
    """The rows of bits.csv of a round; `budgets` are those of all clients."""
    full, rows = (FULL_PRECISION,) * len(layout.sizes), []
    for client in record.clients:
        whose = seed, record.round, client.client, budgets[client.client]
        layers = zip(layout.layers, layout.sizes, client.given or full, client.left or full, strict=True)
        rows += [dict(zip(BITS, (*whose, *layer), strict=True)) for layer in layers]
    return rows


class Origin(BaseModel):
    """Where results are from."""

    hardware: dict[str, Any]
    commit: str | None = None
    """Of the project, if it is a git checkout."""


class Run(Origin):
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
    earlier: dict[str, Origin] = {}
    """Of each `seed-<seed>` that was there before the others were trained."""
    parameters: dict[str, Any]
    """All that determine the result, by dotted key."""
    partition: dict[str, str]
    """Digest of the partition of `seed-<seed>`."""
    fingerprint: str
    confirmed: dict[str, Any] | None = None
    """The `commit` of other code that has repeated so many `rounds` since, if any has; the fingerprint is of that."""

    @model_validator(mode="after")
    def _complete(self) -> "Run":
        seeds = [f"seed-{seed}" for seed in self.seeds]
        needed = {
            "final_accuracy": ["mean", "std", *seeds],
            "best_accuracy": ["mean", "std", *seeds],
            "average_bits": ["given", "left", "all"],
            "bytes_per_client_and_round": ["uplink", "downlink", "nominal"],
            "partition": seeds,
        }
        missing = [f"{name}.{key}" for name, keys in needed.items() for key in keys if key not in getattr(self, name)]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return self


def summarize(rounds: pd.DataFrame, bits: pd.DataFrame, remainder: int) -> Row:
    """The measured part of a `Run`, of rounds.csv and bits.csv; `remainder` values of each model are float32."""
    accuracies = {f"seed-{seed}": rows.tolist() for seed, rows in rounds.groupby("seed", sort=False)["test_accuracy"]}
    clients = {event: int(rounds[event].sum()) for event in EVENTS}
    sent = sum(clients[event] for event in ("answered", "late", "rejected", "discarded"))
    total = rounds.groupby("seed")[["uplink_bytes", "downlink_bytes"]].last().sum()
    given, left = (int((bits["parameters"] * bits[column]).sum()) for column in ("bits_given", "bits_left"))
    weights, rest = int(bits["parameters"].sum()), remainder * clients["answered"]
    return {
        "final_accuracy": _over_seeds({seed: fmean(found[-FINAL_ROUNDS:]) for seed, found in accuracies.items()}),
        "best_accuracy": _over_seeds({seed: max(found) for seed, found in accuracies.items()}),
        "average_bits": {
            "given": given / weights,
            "left": left / weights,
            "all": (given + FULL_PRECISION * rest) / (weights + rest),
        },
        "bytes_per_client_and_round": {
            "uplink": int(total["uplink_bytes"]) / sent,
            "downlink": int(total["downlink_bytes"]) / clients["asked"],
            "nominal": left / 8 / clients["answered"],
        },
        "seconds_per_round": sorted(rounds["seconds"].tolist())[len(rounds) // 2],
    }


def _over_seeds(values: dict[str, float]) -> Row:
    deviation = stdev(values.values()) if len(values) > 1 else None
    return {"mean": fmean(values.values()), "std": deviation, **values}


def headline(run: Row) -> Row:
    """The few numbers of run.json that metrics.json repeats, flat, for `dvc metrics` and `dvc exp` to compare."""
    machines = [made["hardware"] for made in (*run["earlier"].values(), run)]
    return {
        "accuracy": run["final_accuracy"]["mean"],
        "accuracy_std": run["final_accuracy"]["std"],
        "best_accuracy": run["best_accuracy"]["mean"],
        "bits": run["average_bits"]["all"],
        "uplink_bytes": run["bytes_per_client_and_round"]["uplink"],
        "seconds": run["seconds_per_round"],
        "commit": run["commit"],
        # A list: `dvc metrics` shows numbers.
        "hardware": list(dict.fromkeys(machine[key] for key in ("processor", "device") for machine in machines)),
    }


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out in `folder`; None: there is no git, or no commit."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "rev-parse", "--verify", "HEAD"]
        return subprocess.check_output(command, cwd=folder, stderr=subprocess.DEVNULL, text=True).strip()
    return None


def read_run(folder: Path) -> Row:
    """All that is known of the results in `folder` but their tables: the keys of `Run`; UserError if it is damaged."""
    path = folder / "run.json"
    try:
        return Run.model_validate_json(path.read_bytes()).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise broken(path, f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()) from error
    except OSError as error:
        raise broken(path, error.strerror or str(error)) from error


def read_table(path: Path, columns: dict[str, type], size: int | None = None) -> pd.DataFrame:
    """A table with at least `columns`, of their types. Text is what stands there, be it "5" or "NA".

    Of the file its first `size` bytes count, or all.

    Raises:
        UserError: it is missing, damaged or empty, or a value is missing or of another type.
    """
    types = {**columns, "device_accuracy": float}
    gaps = {column: ["", "nan"] for column, kind in types.items() if kind is float}
    try:
        file = BytesIO(path.read_bytes()[:size])
        table = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=gaps)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise broken(path, getattr(error, "strerror", None) or str(error)) from error
    if missing := [column for column in columns if column not in table]:
        raise broken(path, f"column {missing[0]} is missing")
    if table.empty:
        raise broken(path, "it has no rows")
    return table


def to_csv(table: pd.DataFrame, header: bool = True) -> str:
    """What `read_table` reads."""
    return table.to_csv(header=header, index=False, na_rep="nan", lineterminator="\n")


def broken(path: Path, fault: str) -> UserError:
    """What to raise for a file of results that cannot be used."""
    return UserError(f"{path} is broken: {' '.join(fault.split())}; delete that folder and run `dvc repro` again")
