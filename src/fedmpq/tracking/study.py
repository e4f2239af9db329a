"""A search in MLflow: a parent run, and a child run for each trial, written once the trial has come to an end.

Whatever goes wrong in MLflow, the search goes on, and the next call of the same command brings in the trials
that are missing.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpq.tracking.connection import Connection, connect
from fedmpq.tracking.run import experiment_of, log_values

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
NAMES = {
    "accuracy": "validation/accuracy",
    "loss": "validation/loss",
    "uplink_bytes": "bytes/uplink",
    "downlink_bytes": "bytes/downlink",
    "given": "bits/given",
    "left": "bits/left",
    "top_plane": "planes/ones-in-most-significant",
    "seconds": "time/seconds",
}
METRICS_AT_ONCE = 1000  # MLflow's limit of one call


@dataclass(frozen=True)
class TrialRecord:
    """What is logged of one trial."""

    number: int
    state: str
    """complete, pruned or failed."""
    values: Mapping[str, Any]
    """What it trained with, by dotted key."""
    rounds: Sequence[Mapping[str, Any]]
    """A row for each round: the columns of NAMES (bytes are of a client), `round`, and bits `by_budget`."""
    reason: str | None
    """Why it failed."""
    started: datetime
    ended: datetime


class StudyLog:
    """The runs of one study. No method raises because of MLflow."""

    def __init__(self, root: Path, experiment: str, run_id: str | None):
        """Go on with the runs that earlier calls have made.

        Args:
            root: folder of params.yaml.
            experiment: the section that is tuned.
            run_id: the parent run of an earlier call.
        """
        self.experiment = f"{experiment}-tuning"
        self.run_id = run_id
        """The parent run, to be kept with the study; None where MLflow could not be reached."""
        self._connection: Connection = connect(root)
        self._children: dict[int, str] = {}

    def begin(self, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> None:
        """Make the parent run; or go on with it, if it is still there, and with its children."""

        def action(client: "MlflowClient") -> None:
            if not self._is_there(client):
                self.run_id = self._create(client, name, tags, parameters)
            client.update_run(self.run_id, status="RUNNING")
            self._find_children(client)

        self._attempt(action)

    def log(self, trial: TrialRecord) -> None:
        """Make the run of a trial that has none yet."""
        if trial.number not in self._children:
            self._attempt(lambda client: self._log(client, trial))

    def publish(self, best: Sequence[int], measures: Mapping[str, float], files: Iterable[Path]) -> None:
        """Tag the best trials; the parent run gets the measures of the first of them, and the files."""

        def action(client: "MlflowClient") -> None:
            for number, run_id in self._children.items():
                client.set_tag(run_id, "best", str(number in best).lower())
            client.set_tag(self.run_id, "best.trial", ", ".join(map(str, best)))
            log_values(client, self.run_id, measures)
            for path in files:
                client.log_artifact(self.run_id, str(path))

        self._attempt(action)

    def end(self, status: str) -> None:
        """End the parent run: FINISHED, FAILED or KILLED."""
        self._attempt(lambda client: client.set_terminated(self.run_id, status))

    def _is_there(self, client: "MlflowClient") -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self.run_id is not None and client.get_run(self.run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _find_children(self, client: "MlflowClient") -> None:
        """Which trials have a run; one whose writing was cut off is removed, and written again."""
        experiment_id = client.get_run(self.run_id).info.experiment_id
        condition = f"tags.`mlflow.parentRunId` = '{self.run_id}'"
        for run in client.search_runs([experiment_id], condition, max_results=10_000):
            if run.info.status == "RUNNING":
                client.delete_run(run.info.run_id)
            else:
                self._children[int(run.data.tags["trial"])] = run.info.run_id

    def _create(
        self,
        client: "MlflowClient",
        name: str,
        tags: Mapping[str, str],
        parameters: Mapping[str, Any],
        started: datetime | None = None,
    ) -> str:
        from mlflow.entities import Param
        from mlflow.tracking.context.registry import resolve_tags

        experiment_id = experiment_of(client, self._connection, self.experiment)
        start_ms = _milliseconds(started) if started else None
        tags = {**resolve_tags(), **tags}  # MLflow's own: user, program, commit
        run_id = client.create_run(experiment_id, run_name=name, tags=tags, start_time=start_ms).info.run_id
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
        return run_id

    def _log(self, client: "MlflowClient", trial: TrialRecord) -> None:
        tags = {"mlflow.parentRunId": self.run_id, "trial": str(trial.number), "state": trial.state}
        tags |= {"reason": trial.reason} if trial.reason else {}
        run_id = self._create(client, f"trial {trial.number}", tags, trial.values, trial.started)
        metrics = [metric for metrics in _metrics(trial) for metric in metrics]
        for first in range(0, len(metrics), METRICS_AT_ONCE):
            client.log_batch(run_id, metrics=metrics[first : first + METRICS_AT_ONCE])
        client.set_terminated(run_id, STATUS[trial.state], _milliseconds(trial.ended))
        self._children[trial.number] = run_id

    def _attempt(self, action: Callable[["MlflowClient"], None]) -> None:
        connection = self._connection
        if connection.broken:
            return
        try:
            action(connection.client)
        except Exception as error:  # whatever it is, it must not end a search
            connection.broken = True
            remedy = "the search goes on unlogged, the next `make tune` brings it in"
            print(f"warning: {connection.explain(error)}; {remedy}", file=sys.stderr, flush=True)


def _metrics(trial: TrialRecord) -> Iterator[list["Metric"]]:
    """What is logged of each round, stamped with the time at which it ended."""
    from mlflow.entities import Metric

    now = _milliseconds(trial.started)
    for row in trial.rounds:
        now += int(1000 * row["seconds"])
        named = {name: row[column] for column, name in NAMES.items()}
        for budget, bits in row["by_budget"].items():
            named |= {f"bits/budget-{budget}": bits["given"], f"bits-left/budget-{budget}": bits["left"]}
        finite = {name: value for name, value in named.items() if value is not None and math.isfinite(value)}
        yield [Metric(name, float(value), now, row["round"]) for name, value in finite.items()]


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)
