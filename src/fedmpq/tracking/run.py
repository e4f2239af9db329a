"""One training as a run of MLflow."""

import json
import os
import time
from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedmpq.tracking.connection import Connection, connect
from fedmpq.tracking.metrics import Training
from fedmpq.tracking.models import log_model
from fedmpq.tracking.notes import NOTE, experiment_note, run_note
from fedmpq.tracking.view import view

if TYPE_CHECKING:
    from mlflow import entities
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    from mlflow.tracking import MlflowClient

SEAL = "result.sha256"  # the tag that ties a run to the results that were written from it
RUNS_NOT_CHATS = {"mlflow.experimentKind": "custom_model_development"}  # are what the pages of an experiment show
DVC_TAGS = {"DVC_STAGE": "dvc.stage", "DVC_EXP_NAME": "dvc.experiment"}
METRICS_AT_ONCE = 1000  # MLflow's limit of one call

Round = tuple[int, int, Mapping[str, float]]
"""Number of a round, when it ended (milliseconds since the epoch), and what is logged of it."""


class Run(AbstractContextManager):
    """A run of MLflow, begun, or gone on with if one of the same fingerprint and seed was cut off.

    The caller makes sure that no other process writes it. As a context manager it ends the run: FINISHED, FAILED on
    an error, KILLED on KeyboardInterrupt and SystemExit. No method raises because of MLflow; what one could not log,
    the next one does.
    """

    def __init__(self, root: Path, training: Training):
        """Begin; `root` is the folder of params.yaml."""
        self._connection, self._training = connect(root), training
        self._run_id, self._held = "", set()
        self._missing: list[Callable[[MlflowClient], None]] = []
        self._monitor: SystemMetricsMonitor | None = None
        self._log()

    def log_round(self, values: Mapping[str, float], round: int) -> None:
        """Log one round (counted from 1). A round that the run held when it was begun here is passed over."""
        rounds = [(round, _now(), values)]  # Its time stays, so that MLflow keeps it once though it be logged twice.
        self._log(lambda client: log_rounds(client, self._run_id, rounds, self._held))

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of `path` with the run, in its `folder`."""
        self._log(lambda client: client.log_artifact(self._run_id, str(path), folder))

    def log_model(self, content: bytes, classes: list[str], example: NDArray[np.uint8]) -> None:
        """Log the model for MLflow's page of models; for what is given see `fedmpq.tracking.models.log_model`."""
        self._log(lambda client: log_model(client, self._run_id, content, classes, example))

    def _log(self, *actions: "Callable[[MlflowClient], None]", urgent: bool = False) -> None:
        self._missing += actions
        self._connection.attempt(self._catch_up, urgent)

    def _catch_up(self, client: "MlflowClient") -> None:
        if not self._run_id:
            run_id = join(self._connection, self._training).run_id
            client.update_run(run_id, status="RUNNING")
            self._run_id, self._held = run_id, rounds_held(client, run_id)
        while self._missing:
            self._missing[0](client)
            del self._missing[0]

    def __enter__(self) -> "Run":
        self._log(self._watch)
        return self

    def _watch(self, _: "MlflowClient") -> None:
        """Log what the machine is busy with, from a thread, as MLflow's settings say; by default each 10 s."""
        from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with suppress(Exception):  # A system that tells nothing of itself is no reason to log no rounds.
            if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
                uri = self._connection.uri
                self._monitor = SystemMetricsMonitor(self._run_id, resume_logging=True, tracking_uri=uri)
                self._monitor.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        killed = kind and issubclass(kind, KeyboardInterrupt | SystemExit)
        status = "KILLED" if killed else "FAILED" if kind else "FINISHED"
        self._log(lambda client: client.set_terminated(self._run_id, status), urgent=True)
        if self._monitor:  # Last, for what was missed until now may have started it.
            self._monitor.finish()


def join(connection: Connection, training: Training, start_ms: int | None = None) -> "entities.RunInfo":
    """The newest run of `training` that no results are tied to, or a new one.

    `start_ms` says when it began (milliseconds since the epoch), if this process did not carry it out.
    """
    client, experiment_id = connection.client, experiment_of(connection, training.experiment)
    found = runs_of(client, experiment_id, training)
    run = next((run for run in found if SEAL not in run.data.tags), None)
    if run is None:
        name, tags = training.name(connection.folder), training.tags | ({} if start_ms else context())
        tags[NOTE] = run_note(training, connection.folder)
        run = client.create_run(experiment_id, start_ms, tags, name)
        client.set_experiment_tag(experiment_id, *view(training.experiment, training.alpha))
    if not run.data.params:  # likewise where its making was cut off
        _describe(client, run.info.run_id, training)
    return run.info


def runs_of(client: "MlflowClient", experiment_id: str, training: Training) -> list["entities.Run"]:
    """The runs of the fingerprint and seed of `training`, the newest first."""
    same = f"tags.fingerprint = '{training.fingerprint}' and tags.seed = '{training.seed}'"
    return list(client.search_runs([experiment_id], same))


def context() -> dict[str, str]:
    """Tags of what carries out a training: MLflow's own (user, program, commit) and DVC's."""
    from mlflow.tracking.context.registry import resolve_tags

    return resolve_tags({tag: os.environ[name] for name, tag in DVC_TAGS.items() if os.environ.get(name)})


def _describe(client: "MlflowClient", run_id: str, training: Training) -> None:
    """Log what a run is trained on, and last its parameters."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = str(training.parameters.get("data.source", training.experiment))
    source = json.dumps({"uri": f"data/prepared/{training.experiment}"})
    dataset = Dataset(name, training.partition[:36] or "unknown", "local", source)  # 36 is MLflow's limit
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    own = {key: training.tags[key] for key in ("algorithm", "alpha", "seed")}
    log_parameters(client, run_id, {**training.parameters, **own})


def log_parameters(client: "MlflowClient", run_id: str, parameters: Mapping[str, Any]) -> None:
    """Log what a run was made with."""
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])


def rounds_held(client: "MlflowClient", run_id: str) -> set[int]:
    """The rounds that a run holds."""
    return {metric.step for metric in client.get_metric_history(run_id, "test/accuracy")}


def log_rounds(client: "MlflowClient", run_id: str, rounds: list[Round], held: Container[int] = ()) -> None:
    """Log the rounds that are not `held`, several in a call, each in one, so that it is never half logged."""
    from mlflow.entities import Metric
    from mlflow.utils import chunk_list

    rounds = [round for round in rounds if round[0] not in held]
    widest = max((len(values) for _, _, values in rounds), default=1)
    for some in chunk_list(rounds, METRICS_AT_ONCE // widest):
        metrics = [
            Metric(name, value, ended, number) for number, ended, values in some for name, value in values.items()
        ]
        client.log_batch(run_id, metrics)


def experiment_of(connection: Connection, name: str) -> str:
    """Id of the experiment called `name`, which is made if there is none and restored if it was deleted."""
    from mlflow.exceptions import MlflowException

    client = connection.client
    try:
        tags = RUNS_NOT_CHATS | {NOTE: experiment_note(name)} | dict([view(name)])
        return client.create_experiment(name, connection.artifacts(name), tags)
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id


def _now() -> int:
    return int(time.time() * 1000)
