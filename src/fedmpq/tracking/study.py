"""A search in MLflow: a parent run, and a child run for each trial, written once the trial has come to an end."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpq.tracking.connection import connect
from fedmpq.tracking.run import experiment_of, log_values

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from optuna import Study
    from optuna.trial import FrozenTrial

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def log_study(root: Path, name: str, study: "Study", best: int | None = None, files: Iterable[Path] = ()) -> None:
    """Bring the runs of a search up to date: trials that have come to an end and have no run yet get one.

    Whatever goes wrong in MLflow, the search goes on, and the next call brings in what is missing.

    Args:
        root: folder of params.yaml.
        name: the experiment that is tuned.
        study: with user attribute `identity`, what all trials have in common; its trials with `values` by dotted key,
            `rounds`: rows of numbers, and `reason`.
        best: number of the best trial; None: the search goes on.
        files: for the parent run to keep.
    """
    connection = connect(root)

    def update(client: "MlflowClient") -> None:
        experiment_id = experiment_of(client, connection, f"{name}-tuning")
        parent, children = _known(client, experiment_id, study.user_attrs.get("run_id"))
        if parent is None:
            parent = _create(client, experiment_id, {}, study.user_attrs["identity"], run_name=f"tuning {name}")
            study.set_user_attr("run_id", parent)
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and str(trial.number) not in children:
                _log_trial(client, experiment_id, parent, trial)
        for path in files:
            client.log_artifact(parent, str(path))
        client.update_run(parent, status="RUNNING")
        if best is not None:
            client.set_tag(parent, "best.trial", str(best))
            log_values(client, parent, {"accuracy": study.trials[best].values[0]})
            client.set_terminated(parent)

    connection.attempt(update)


def _known(client: "MlflowClient", experiment_id: str, parent: str | None) -> tuple[str | None, set[str]]:
    """The parent run, if it is still there, and the trials that have a run; one that was cut off is removed."""
    runs, trials = client.search_runs([experiment_id], max_results=10_000), set()
    if parent not in [run.info.run_id for run in runs]:
        return None, trials
    for run in runs:
        if run.data.tags.get("mlflow.parentRunId") == parent:
            if run.info.status == "RUNNING":
                client.delete_run(run.info.run_id)
            else:
                trials.add(run.data.tags["trial"])
    return parent, trials


def _log_trial(client: "MlflowClient", experiment_id: str, parent: str, trial: "FrozenTrial") -> None:
    from mlflow.entities import Metric

    attributes, name = trial.user_attrs, f"trial {trial.number}"
    now, end = (int(1000 * time.timestamp()) for time in (trial.datetime_start, trial.datetime_complete))
    tags = {"mlflow.parentRunId": parent, "trial": str(trial.number), "reason": attributes.get("reason", "")}
    run_id = _create(client, experiment_id, tags, attributes.get("values", {}), run_name=name, start_time=now)
    for number, row in enumerate(attributes.get("rounds", []), start=1):
        now += int(1000 * row["seconds"])
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        metrics = [Metric(f"validation/{name}", value, now, number) for name, value in finite.items()]
        client.log_batch(run_id, metrics=metrics)
    client.set_terminated(run_id, STATUS[trial.state.name], end)


def _create(
    client: "MlflowClient", experiment_id: str, tags: dict[str, str], parameters: dict[str, Any], **options: Any
) -> str:
    from mlflow.entities import Param
    from mlflow.tracking.context.registry import resolve_tags

    tags = {**resolve_tags(), **tags}  # MLflow's own: user, program, commit
    run_id = client.create_run(experiment_id, tags=tags, **options).info.run_id
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    return run_id
