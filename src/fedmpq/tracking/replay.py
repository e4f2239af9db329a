"""Bring results that are on disk into MLflow, and tie runs to the results that were written from them."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from fedmpq.engine.results import BITS, ROUNDS, read_run, read_table
from fedmpq.errors import UserError
from fedmpq.files import sha256
from fedmpq.tracking.connection import Connection, connect
from fedmpq.tracking.metrics import Training, round_metrics, summary_metrics
from fedmpq.tracking.run import SEAL, Round, experiment_of, join, log_rounds, log_values, rounds_held

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

TABLES = {"rounds.csv": ROUNDS, "bits.csv": BITS}
RECORDED = ("run.json", *TABLES)
"""The files whose digest tells results apart."""
BitsFigure = Callable[[pd.DataFrame], "Figure"]
"""Draws the rows of bits.csv of one seed."""


@dataclass(frozen=True)
class Results:
    """What one training stage left: all seeds of an algorithm at one alpha."""

    folder: Path
    metrics: dict[str, Any]
    digest: str
    end_ms: int
    """When they were written, milliseconds since the epoch."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read results/<experiment>/<algorithm>/alpha-<alpha>/. Raises UserError: a file is missing or damaged."""
        digest = sha256(*(folder / name for name in RECORDED if (folder / name).exists()))
        return cls(folder, read_run(folder), digest, int((folder / "run.json").stat().st_mtime * 1000))

    def training(self, seed: int) -> Training:
        """What the run of `seed` is a run of."""
        metrics, place = self.metrics, self.folder.name
        alpha = place.removeprefix("alpha-") if place.startswith("alpha-") else f"{metrics['alpha']:g}"
        digests = metrics["partition"][f"seed-{seed}"], metrics["fingerprint"]
        return Training(metrics["experiment"], metrics["algorithm"], alpha, seed, metrics["parameters"], *digests)

    def table(self, name: str, seed: int) -> pd.DataFrame:
        """Rows of rounds.csv or bits.csv that belong to `seed`."""
        table = read_table(self.folder / name, TABLES[name])
        return table[table["seed"] == seed]


def seal(root: Path, folder: Path, figure: BitsFigure | None = None) -> None:
    """Give the runs of a cell what they lack of its results, and the digest by which `replay` knows them.

    Call it once the results of all seeds are in `folder`. Does not raise because of MLflow.

    Args:
        root: folder of params.yaml.
        folder: results/<experiment>/<algorithm>/alpha-<alpha>/.
        figure: draws the bit allocation of a run; None: no picture.

    Raises:
        UserError: the results are damaged.
    """
    results, connection = Results.read(folder), connect(root)
    connection.attempt(lambda client: _bring(client, connection, results, figure), urgent=True)


def replay(results: Path, root: Path, figure: BitsFigure | None = None) -> list[str]:
    """Bring into MLflow what is in results/ and not yet there, one run a seed; running it again changes nothing.

    A run that a training left unfinished is completed. One that was deleted in MLflow stays deleted.

    Returns:
        Names of the runs brought in.

    Raises:
        UserError: MLflow cannot be used.
    """
    connection, brought = connect(root), []
    with connection.required() as client:
        for path in sorted(results.glob("*/*/alpha-*/run.json")):
            try:
                seeds = _bring(client, connection, Results.read(path.parent), figure)
            except UserError as error:
                print(f"warning: {error}", file=sys.stderr)
                continue
            experiment, algorithm, alpha, _ = path.parts[-4:]
            brought += [f"{experiment}: {algorithm} {alpha} seed {seed}" for seed in seeds]
    return brought


def _bring(client: "MlflowClient", connection: Connection, results: Results, figure: BitsFigure | None) -> list[int]:
    """Bring in the seeds that are not there; returns them."""
    from mlflow.entities import ViewType

    experiment_id = experiment_of(client, connection, results.metrics["experiment"])
    tied = client.search_runs([experiment_id], f"tags.`{SEAL}` = '{results.digest}'", ViewType.ALL)
    there = {run.data.tags.get("seed") for run in tied}
    missing = [seed for seed in results.metrics["seeds"] if str(seed) not in there]
    for seed in missing:
        _bring_seed(client, connection, results, seed, figure)
    return missing


def _bring_seed(
    client: "MlflowClient", connection: Connection, results: Results, seed: int, figure: BitsFigure | None
) -> None:
    training, summary = results.training(seed), summary_metrics(results.metrics, seed)
    rounds, bits = results.table("rounds.csv", seed).sort_values("round"), results.table("bits.csv", seed)
    start_ms = results.end_ms - int(rounds["seconds"].sum() * 1000)  # had it been the last to end
    stamped = list(_stamped(rounds, bits, start_ms))
    run = join(client, connection, training, start_ms=start_ms)
    held = rounds_held(client, run.run_id)
    log_rounds(client, run.run_id, [round for round in stamped if round[0] > held])
    log_values(client, run.run_id, summary, results.end_ms)
    client.log_text(run.run_id, rounds.to_csv(index=False), "rounds.csv")
    client.log_text(run.run_id, bits.to_csv(index=False), "bits.csv")
    if figure is not None:
        client.log_figure(run.run_id, figure(bits), "bits.png")
    if run.status != "FINISHED":
        client.set_terminated(run.run_id, "FINISHED", results.end_ms)
    client.set_tag(run.run_id, SEAL, results.digest)  # last: an interrupted run counts as not brought in


def _stamped(rounds: pd.DataFrame, bits: pd.DataFrame, start_ms: int) -> Iterator[Round]:
    """What is logged of each round, with the time at which it ended."""
    bits_by_round = {number: rows.to_dict("records") for number, rows in bits.groupby("round")}
    times = start_ms + (rounds["seconds"].cumsum() * 1000).astype(int)
    for row, time_ms in zip(rounds.to_dict("records"), times, strict=True):
        number = int(row["round"])
        yield number, int(time_ms), round_metrics(row, bits_by_round.get(number, []))
