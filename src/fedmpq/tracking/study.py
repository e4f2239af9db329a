"""A search in MLflow: a parent run, and a child run for each trial, written once the trial has come to an end."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpq.tracking.connection import connect
from fedmpq.tracking.run import experiment_of, log_values

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
    from optuna import Study
    from optuna.trial import FrozenTrial

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
METRICS_AT_ONCE = 1000  # MLflow's limit of one call


def log_study(
    root: Path, name: str, study: "Study", status: str, best: Sequence[int] = (), files: Iterable[Path] = ()
) -> None:
    """Bring the runs of a search up to date: trials that have come to an end and have no run yet get one.

    Whatever goes wrong in MLflow, the search goes on, and the next call brings in what is missing.

    Args:
        root: folder of params.yaml.
        name: the experiment that is tuned.
        study: with user attributes `identity`, what all trials have in common, and, from here, `run_id`; its trials
            with `values` by dotted key, `rounds`: rows of numbers, `summary` and `reason`.
        status: of the parent run: RUNNING, FINISHED, FAILED or KILLED.
        best: numbers of the best trials, to be tagged.
        files: for the parent run to keep.
    """
    connection = connect(root)

    def update(client: "MlflowClient") -> None:
        experiment_id = experiment_of(client, connection, f"{name}-tuning")
        runs = client.search_runs([experiment_id], max_results=10_000)
        parent = study.user_attrs.get("run_id")
        if parent not in [run.info.run_id for run in runs]:
            parent = _create(client, experiment_id, f"tuning {name}", {}, study.user_attrs["identity"])
            study.set_user_attr("run_id", parent)
        children = _children(client, parent, runs)
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in children:
                children[trial.number] = _log_trial(client, experiment_id, parent, trial)
        if best:
            for number, run_id in children.items():
                client.set_tag(run_id, "best", str(number in best).lower())
            client.set_tag(parent, "best.trial", ", ".join(map(str, best)))
            log_values(client, parent, study.trials[best[0]].user_attrs["summary"])
        for path in files:
            client.log_artifact(parent, str(path))
        client.update_run(parent, status=status)

    connection.attempt(update)


def _children(client: "MlflowClient", parent: str, runs: Iterable["Run"]) -> dict[int, str]:
    """The run of each trial; one whose writing was cut off is removed, and written again."""
    children = {}
    for run in runs:
        if run.data.tags.get("mlflow.parentRunId") == parent:
            if run.info.status == "RUNNING":
                client.delete_run(run.info.run_id)
            else:
                children[int(run.data.tags["trial"])] = run.info.run_id
    return children


def _log_trial(client: "MlflowClient", experiment_id: str, parent: str, trial: "FrozenTrial") -> str:
    from mlflow.entities import Metric

    attributes, now = trial.user_attrs, _milliseconds(trial.datetime_start)
    tags = {"mlflow.parentRunId": parent, "trial": str(trial.number), "reason": attributes.get("reason", "")}
    run_id = _create(client, experiment_id, f"trial {trial.number}", tags, attributes.get("values", {}), now)
    metrics = []
    for number, row in enumerate(attributes.get("rounds", []), start=1):
        now += int(1000 * row["seconds"])
        finite = {f"validation/{name}": value for name, value in row.items() if math.isfinite(value)}
        metrics += [Metric(name, value, now, number) for name, value in finite.items()]
    for first in range(0, len(metrics), METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[first : first + METRICS_AT_ONCE])
    client.set_terminated(run_id, STATUS[trial.state.name], _milliseconds(trial.datetime_complete))
    return run_id


def _create(
    client: "MlflowClient",
    experiment_id: str,
    name: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    start_ms: int | None = None,
) -> str:
    from mlflow.entities import Param
    from mlflow.tracking.context.registry import resolve_tags

    tags = {**resolve_tags(), **tags}  # MLflow's own: user, program, commit
    run_id = client.create_run(experiment_id, run_name=name, tags=tags, start_time=start_ms).info.run_id
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    return run_id


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)
