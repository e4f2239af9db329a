"""A search in MLflow: a parent run, and a child run for each trial, written once the trial has come to an end."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpq.tracking.connection import connect
from fedmpq.tracking.run import experiment_of, log_values

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from optuna import Study
    from optuna.trial import FrozenTrial

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


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
        parent, children = _known(client, experiment_id, study.user_attrs.get("run_id"))
        if parent is None:
            parent = _create(client, experiment_id, {}, study.user_attrs["identity"], run_name=f"tuning {name}")
            study.set_user_attr("run_id", parent)
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in children:
                children[trial.number] = _log_trial(client, experiment_id, parent, trial)
        if best:
            for number, run_id in children.items():
                client.set_tag(run_id, "best", str(number in best).lower())
            client.set_tag(parent, "best.trial", ", ".join(map(str, best)))
            log_values(client, parent, _finite(study.trials[best[0]].user_attrs["summary"]))
        for path in files:
            client.log_artifact(parent, str(path))
        client.update_run(parent, status=status)

    connection.attempt(update)


def _known(client: "MlflowClient", experiment_id: str, parent: str | None) -> tuple[str | None, dict[int, str]]:
    """The parent run, if it is still there, and the run of each trial; one whose writing was cut off is removed."""
    runs, children = client.search_runs([experiment_id], max_results=10_000), {}
    for run in runs:
        if parent and run.data.tags.get("mlflow.parentRunId") == parent:
            if run.info.status == "RUNNING":
                client.delete_run(run.info.run_id)
            else:
                children[int(run.data.tags["trial"])] = run.info.run_id
    return (parent if parent in [run.info.run_id for run in runs] else None), children


def _log_trial(client: "MlflowClient", experiment_id: str, parent: str, trial: "FrozenTrial") -> str:
    from mlflow.entities import Metric

    attributes = trial.user_attrs
    now, end = (int(1000 * time.timestamp()) for time in (trial.datetime_start, trial.datetime_complete))
    tags = {"mlflow.parentRunId": parent, "trial": str(trial.number), "reason": attributes.get("reason", "")}
    values, run_name = attributes.get("values", {}), f"trial {trial.number}"
    run_id = _create(client, experiment_id, tags, values, run_name=run_name, start_time=now)
    for number, row in enumerate(attributes.get("rounds", []), start=1):
        now += int(1000 * row["seconds"])
        metrics = [Metric(f"validation/{name}", value, now, number) for name, value in _finite(row).items()]
        client.log_batch(run_id, metrics=metrics)
    client.set_terminated(run_id, STATUS[trial.state.name], end)
    return run_id


def _create(
    client: "MlflowClient", experiment_id: str, tags: dict[str, str], parameters: dict[str, Any], **options: Any
) -> str:
    from mlflow.entities import Param
    from mlflow.tracking.context.registry import resolve_tags

    tags = {**resolve_tags(), **tags}  # MLflow's own: user, program, commit
    run_id = client.create_run(experiment_id, tags=tags, **options).info.run_id
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    return run_id


def _finite(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if math.isfinite(value)}
