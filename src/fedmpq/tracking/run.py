"""One training as a run of MLflow."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fedmpq.errors import UserError
from fedmpq.tracking.connection import Connection, connect
from fedmpq.tracking.metrics import Training
from fedmpq.tracking.view import TAG, view

if TYPE_CHECKING:
    from mlflow import entities
    from mlflow.tracking import MlflowClient

MARKER = "test/accuracy"  # logged every round: its last step tells how far a run has come
SEAL = "result.sha256"  # the tag that ties a run to the results that were written from it
RUNS_NOT_CHATS = {"mlflow.experimentKind": "custom_model_development"}  # are what the pages of an experiment show
DVC_TAGS = {"DVC_STAGE": "dvc.stage", "DVC_EXP_NAME": "dvc.experiment"}
METRICS_AT_ONCE = 1000  # MLflow's limit of one call

Round = tuple[int, int, Mapping[str, float]]
"""Number of a round, when it ended (milliseconds since the epoch), and what is logged of it."""


class Run:
    """A run of MLflow, begun, or gone on with if one of the same fingerprint and seed was cut off.

    The caller makes sure that no other process writes it. As a context manager it ends the run: FINISHED, FAILED on
    an error, KILLED on KeyboardInterrupt and SystemExit. No method raises because of MLflow; what one could not log,
    the next one does.
    """

    def __init__(self, root: Path, training: Training):
        """Begin; `root` is the folder of params.yaml."""
        self._connection, self._training = connect(root), training
        self._run_id: str | None = None
        self._held = 0  # rounds that the run held when it was begun here
        self._rounds: list[Round] = []
        self._files: list[tuple[str, str | None]] = []
        self._connection.attempt(self._catch_up)

    def log_round(self, values: Mapping[str, float], round: int) -> None:
        """Log one round (counted from 1). A round that the run already holds is passed over."""
        self._rounds.append((round, _now(), values))
        self._connection.attempt(self._catch_up)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of `path` with the run, in its `folder`."""
        self._files.append((str(path), folder))
        self._connection.attempt(self._catch_up)

    def _catch_up(self, client: "MlflowClient") -> str:
        """Log what is still to be logged; rounds have their time already, so that MLflow keeps no round twice."""
        if self._run_id is None:
            run_id = join(client, self._connection, self._training).run_id
            client.update_run(run_id, status="RUNNING")
            self._held = rounds_held(client, run_id)
            self._run_id = run_id
        log_rounds(client, self._run_id, [round for round in self._rounds if round[0] > self._held])
        self._rounds.clear()
        while self._files:
            client.log_artifact(self._run_id, *self._files[0])
            del self._files[0]
        return self._run_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        killed = kind and issubclass(kind, KeyboardInterrupt | SystemExit)
        status = "KILLED" if killed else "FAILED" if kind else "FINISHED"
        self._connection.attempt(lambda client: client.set_terminated(self._catch_up(client), status), urgent=True)


def join(
    client: "MlflowClient", connection: Connection, training: Training, start_ms: int | None = None
) -> "entities.RunInfo":
    """The newest run of `training` that no results are tied to, or a new one.

    `start_ms` says when it began (milliseconds since the epoch), if this process did not carry it out.
    """
    experiment_id = experiment_of(client, connection, training.experiment)
    found = runs_of(client, experiment_id, training)
    run = next((run for run in found if SEAL not in run.data.tags), None)
    if run is None:
        name, tags = training.name(connection.folder), {**({} if start_ms else _context()), **training.tags}
        run = client.create_run(experiment_id, run_name=name, tags=tags, start_time=start_ms)
    if not run.data.params:  # likewise where its making was cut off
        _describe(client, run.info.run_id, training)
    return run.info


def runs_of(client: "MlflowClient", experiment_id: str, training: Training) -> list["entities.Run"]:
    """The runs of the fingerprint and seed of `training`, if it has a fingerprint, the newest first."""
    same = f"tags.fingerprint = '{training.fingerprint}' and tags.seed = '{training.seed}'"
    return list(client.search_runs([experiment_id], same)) if training.fingerprint else []


def fetch_model(root: Path, training: Training, folder: Path) -> Path:
    """Copy what the newest run of `training` keeps in its folder `model` into `folder`; returns where it is.

    Raises:
        UserError: MLflow cannot be used, or has no such run.
    """
    with connect(root).required() as client:
        experiment = client.get_experiment_by_name(training.experiment)
        for run in runs_of(client, experiment.experiment_id, training) if experiment else []:
            if client.list_artifacts(run.info.run_id, "model"):
                return Path(client.download_artifacts(run.info.run_id, "model", str(folder)))
    raise UserError(
        f"MLflow has no trained model of {training.algorithm} at alpha {training.alpha}, seed {training.seed}, with"
        " these parameters; train it (make repro, or python -m pipeline.train), or name it with --checkpoint"
    )


def _context() -> dict[str, str]:
    """Tags of what carries out a training: MLflow's own (user, program, commit) and DVC's."""
    from mlflow.tracking.context.registry import resolve_tags

    return resolve_tags() | {tag: os.environ[name] for name, tag in DVC_TAGS.items() if os.environ.get(name)}


def _describe(client: "MlflowClient", run_id: str, training: Training) -> None:
    """Log what a run is trained on, and last its parameters."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    name = str(training.parameters.get("data.source", training.experiment))
    source = json.dumps({"uri": f"data/prepared/{training.experiment}"})
    dataset = Dataset(name, training.partition[:36] or "unknown", "local", source)  # 36 is MLflow's limit
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    own = {key: training.tags[key] for key in ("algorithm", "alpha", "seed")}
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in {**training.parameters, **own}.items()])


def rounds_held(client: "MlflowClient", run_id: str) -> int:
    """Number of rounds that a run holds."""
    return max((metric.step for metric in client.get_metric_history(run_id, MARKER)), default=0)


def log_rounds(client: "MlflowClient", run_id: str, rounds: Iterable[Round]) -> None:
    """Log rounds, several in a call, each in one, so that it is never half logged."""
    from mlflow.entities import Metric

    batch: list[Metric] = []
    for number, time_ms, values in rounds:
        if len(batch) + len(values) > METRICS_AT_ONCE:
            client.log_batch(run_id, metrics=batch)
            batch = []
        batch = batch + [Metric(name, value, time_ms, number) for name, value in values.items()]
    if batch:
        client.log_batch(run_id, metrics=batch)


def log_values(client: "MlflowClient", run_id: str, values: Mapping[str, float], time_ms: int | None = None) -> None:
    """Log numbers that belong to no round; at step 0, for which MLflow draws bars."""
    log_rounds(client, run_id, [(0, time_ms or _now(), values)])


def experiment_of(client: "MlflowClient", connection: Connection, name: str) -> str:
    """Id of the experiment called `name`, which is made if there is none and restored if it was deleted."""
    from mlflow.exceptions import MlflowException

    tags, found = {**RUNS_NOT_CHATS, TAG: view(name)}, client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=connection.artifacts(name), tags=tags)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found.tags.get(TAG) != tags[TAG]:
        client.set_experiment_tag(found.experiment_id, TAG, tags[TAG])
    return found.experiment_id


def _now() -> int:
    return int(time.time() * 1000)
