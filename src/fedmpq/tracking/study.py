"""A search in MLflow: a parent run, and a child run for each trial, written once the trial has come to an end."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpq.engine.results import Row
from fedmpq.tracking.connection import connect
from fedmpq.tracking.metrics import finite
from fedmpq.tracking.notes import NOTE, TUNING, search_note
from fedmpq.tracking.run import context, experiment_of, log_parameters, log_rounds

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from optuna import Study
    from optuna.trial import FrozenTrial

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
PARENT = "mlflow.parentRunId"


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
        experiment_id = experiment_of(connection, f"{name}{TUNING}")
        runs, parent = client.search_runs([experiment_id], max_results=10_000), study.user_attrs.get("run_id")
        if parent not in [run.info.run_id for run in runs]:
            tags, identity = {NOTE: search_note(name)}, study.user_attrs["identity"]
            parent = _create(client, experiment_id, identity, tags, run_name=f"tuning {name}")
            study.set_user_attr("run_id", parent)
        trials = {run.data.tags["trial"]: run.info for run in runs if run.data.tags.get(PARENT) == parent}
        for trial in study.get_trials(deepcopy=False):
            found = trials.get(str(trial.number))
            if found and found.status == "RUNNING":  # Its writing was cut off.
                client.delete_run(found.run_id)
            if trial.state.is_finished() and (not found or found.status == "RUNNING"):
                _log_trial(client, experiment_id, parent, trial, name)
        for path in files:
            client.log_artifact(parent, str(path))
        client.update_run(parent, status="RUNNING")
        if best is not None:
            client.set_tag(parent, "best.trial", str(best))
            client.log_metric(parent, "accuracy", study.trials[best].values[0])
            client.set_terminated(parent)

    connection.attempt(update)


def _log_trial(client: "MlflowClient", experiment_id: str, parent: str, trial: "FrozenTrial", tuned: str) -> None:
    found, rounds = trial.user_attrs, []
    now, end = (int(1000 * time.timestamp()) for time in (trial.datetime_start, trial.datetime_complete))
    tags = {PARENT: parent, "trial": str(trial.number), "reason": found.get("reason", "")}
    tags |= {NOTE: search_note(tuned, trial.number)}
    name, values = f"trial {trial.number}", found.get("values", {})
    run_id = _create(client, experiment_id, values, tags, run_name=name, start_time=now)
    for number, row in enumerate(found.get("rounds", []), start=1):
        now += int(1000 * row["seconds"])
        rounds.append((number, now, finite({f"validation/{name}": value for name, value in row.items()})))
    log_rounds(client, run_id, rounds)
    client.set_terminated(run_id, STATUS[trial.state.name], end)


def _create(client: "MlflowClient", experiment_id: str, parameters: Row, tags: dict[str, str], **options: Any) -> str:
    run = client.create_run(experiment_id, tags=context() | tags, **options)
    log_parameters(client, run.info.run_id, parameters)
    return run.info.run_id
