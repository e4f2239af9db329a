"""Bring results that are on disk into MLflow, and tie runs to the results that were written from them."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from fedmpq.errors import UserError
from fedmpq.files import sha256
from fedmpq.tracking.connection import Connection, connect
from fedmpq.tracking.metrics import round_metrics, summary_metrics
from fedmpq.tracking.run import create, experiment_of, log_values, rejoin

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

FILES = ("metrics.json", "rounds.csv", "bits.csv")
NEEDED = {"algorithm", "alpha", "average_bits", "best_accuracy", "bytes_per_client_and_round", "final_accuracy"}
NEEDED |= {"fingerprint", "parameters", "partition", "seconds_per_round", "seeds"}
SEAL = "result.sha256"
METRICS_AT_ONCE = 1000  # MLflow's limit of one call

BitsFigure = Callable[[pd.DataFrame], "Figure"]
"""Draws the rows of bits.csv of one seed."""


@dataclass(frozen=True)
class Results:
    """What one training stage left: all seeds of an algorithm at one alpha."""

    metrics: dict[str, Any]
    rounds: pd.DataFrame
    bits: pd.DataFrame
    digest: str
    end_ms: int
    """When they were written, milliseconds since the epoch."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read results/<experiment>/<algorithm>/alpha-<alpha>/.

        Raises:
            UserError: a file is missing or damaged.
        """
        metrics, rounds, bits = paths = [folder / name for name in FILES]
        try:
            content = json.loads(metrics.read_text())
            if lacking := NEEDED - content.keys():
                raise ValueError(f"no {min(lacking)} in {metrics.name}")
            return cls(
                metrics=content,
                rounds=pd.read_csv(rounds),
                bits=pd.read_csv(bits),
                digest=sha256(*paths),
                end_ms=int(metrics.stat().st_mtime * 1000),
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"results in {folder} are incomplete or damaged ({reason}); train that cell again"
            ) from error

    def tags(self, seed: int) -> dict[str, str]:
        """The tags that say which run the results of one seed belong to."""
        return {
            "algorithm": self.metrics["algorithm"],
            "alpha": str(self.metrics["alpha"]),
            "seed": str(seed),
            "partition": self.metrics["partition"][f"seed-{seed}"],
            "fingerprint": self.metrics["fingerprint"],
        }

    def of_seed(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows of rounds.csv and bits.csv of one seed, by round."""
        rounds, bits = (table[table["seed"] == seed] for table in (self.rounds, self.bits))
        return rounds.sort_values("round"), bits

    def start_ms(self, seed: int) -> int:
        """When the training of `seed` would have begun, had it been the last to end."""
        return self.end_ms - int(self.of_seed(seed)[0]["seconds"].sum() * 1000)


def seal(root: Path, folder: Path, runs: Mapping[int, str | None], figure: BitsFigure | None = None) -> None:
    """Give the runs of a cell their summary, rounds.csv, bits.csv and the digest by which `replay` knows them.

    Call it once the results of all seeds are in `folder`. Does not raise because of MLflow.

    Args:
        root: folder of params.yaml.
        folder: results/<experiment>/<algorithm>/alpha-<alpha>/.
        runs: seed -> run id, None for a run that MLflow did not take.
        figure: draws the bit allocation of a run; None: no picture.

    Raises:
        UserError: the results are damaged.
    """
    results = Results.read(folder)
    connection = connect(root)
    for seed, run_id in runs.items():
        if run_id is not None:
            connection.attempt(lambda client, s=seed, r=run_id: _attach(client, r, results, s, figure))


def replay(results: Path, root: Path, figure: BitsFigure | None = None) -> list[str]:
    """Bring into MLflow what is in results/ and not yet there, one run a seed; running it again changes nothing.

    A run that a training left unfinished is completed. One that was deleted in MLflow stays deleted.

    Returns:
        Names of the runs brought in.

    Raises:
        UserError: MLflow cannot be used.
    """
    connection = connect(root)
    folders = sorted({path.parents[2] for path in results.glob("*/*/alpha-*/metrics.json")})
    with connection.required() as client:
        return [name for folder in folders for name in _replay_experiment(client, connection, folder, figure)]


def experiments(root: Path) -> dict[str, str]:
    """Ids in MLflow of the experiments there, by name. Raises UserError where MLflow cannot be used."""
    with connect(root).required() as client:
        return {found.name: found.experiment_id for found in client.search_experiments() if found.name != "Default"}


def _replay_experiment(
    client: "MlflowClient", connection: Connection, folder: Path, figure: BitsFigure | None
) -> list[str]:
    sealed, unfinished = _runs(client, experiment_of(client, connection, folder.name))
    brought = []
    for metrics in sorted(folder.glob("*/alpha-*/metrics.json")):
        try:
            results = Results.read(metrics.parent)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
            continue
        for seed in results.metrics["seeds"]:
            if (results.digest, str(seed)) not in sealed:
                run_id = unfinished.get((results.metrics["fingerprint"], str(seed)))
                run_id, logged = _joined(client, connection, folder.name, results, seed, run_id)
                _complete(client, run_id, logged, results, seed, figure)
                brought.append(f"{folder.name}: {metrics.parts[-3]} {metrics.parts[-2]} seed {seed}")
    return brought


def _runs(client: "MlflowClient", experiment_id: str) -> tuple[set[tuple[str, str]], dict[tuple[str, str], str]]:
    """(digest of the results, seed) of all runs that have one; id by (fingerprint, seed) of those that do not."""
    from mlflow.entities import ViewType

    sealed, unfinished, page = set(), {}, None
    while True:
        found = client.search_runs([experiment_id], run_view_type=ViewType.ALL, max_results=1000, page_token=page)
        for run in found:
            tags = run.data.tags
            if SEAL in tags:
                sealed.add((tags[SEAL], tags.get("seed", "")))
            elif run.info.lifecycle_stage == "active":
                unfinished[tags.get("fingerprint", ""), tags.get("seed", "")] = run.info.run_id
        page = found.token
        if not page:
            return sealed, unfinished


def _joined(
    client: "MlflowClient", connection: Connection, experiment: str, results: Results, seed: int, run_id: str | None
) -> tuple[str, int]:
    """The unfinished run `run_id` and its number of rounds, or a new run without rounds."""
    logged = rejoin(client, run_id) if run_id else None
    if logged is not None:
        return run_id, logged
    tags, parameters = results.tags(seed), results.metrics["parameters"]
    return create(client, connection, experiment, tags, parameters, start_ms=results.start_ms(seed)), 0


def _complete(
    client: "MlflowClient", run_id: str, logged: int, results: Results, seed: int, figure: BitsFigure | None
) -> None:
    for batch in _batches(_later_rounds(results, seed, logged)):
        client.log_batch(run_id, metrics=batch)
    _attach(client, run_id, results, seed, figure)
    client.set_terminated(run_id, "FINISHED", results.end_ms)


def _later_rounds(results: Results, seed: int, logged: int) -> Iterator[list["Metric"]]:
    """The metrics of each round after `logged`, stamped with the times at which the rounds ended."""
    from mlflow.entities import Metric

    rounds, bits = results.of_seed(seed)
    bits_by_round = {number: rows.to_dict("records") for number, rows in bits.groupby("round")}
    times = results.start_ms(seed) + (rounds["seconds"].cumsum() * 1000).astype(int)
    for row, time_ms in zip(rounds.to_dict("records"), times, strict=True):
        number = int(row["round"])
        if number > logged:
            values = round_metrics(row, bits_by_round.get(number, []))
            yield [Metric(name, value, int(time_ms), number) for name, value in values.items()]


def _batches(rounds: Iterator[list["Metric"]]) -> Iterator[list["Metric"]]:
    """Whole rounds together, so that a round is never half logged."""
    batch: list[Metric] = []
    for metrics in rounds:
        if len(batch) + len(metrics) > METRICS_AT_ONCE:
            yield batch
            batch = []
        batch = batch + metrics
    yield batch


def _attach(client: "MlflowClient", run_id: str, results: Results, seed: int, figure: BitsFigure | None) -> None:
    rounds, bits = results.of_seed(seed)
    log_values(client, run_id, summary_metrics(results.metrics, seed))
    client.log_text(run_id, rounds.to_csv(index=False), "rounds.csv")
    client.log_text(run_id, bits.to_csv(index=False), "bits.csv")
    if figure is not None:
        client.log_figure(run_id, figure(bits), "bits.png")
    client.set_tag(run_id, SEAL, results.digest)  # last: an interrupted run counts as not brought in
