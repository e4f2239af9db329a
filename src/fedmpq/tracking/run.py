"""One training as a run of MLflow."""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from fedmpq.tracking.connection import Connection, connect

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MARKER = "test/accuracy"  # logged every round: its last step tells how far a run has come
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the pages then show runs, not chats
PARAMETERS_AT_ONCE = 100  # MLflow's limit of one call
VALUE_LENGTH = 6000  # likewise, of a parameter's value


class Run:
    """A run of MLflow for one algorithm, alpha and seed.

    As a context manager it ends the run: FINISHED, FAILED on an error, KILLED on Ctrl-C or SIGTERM (which is
    turned into SystemExit meanwhile). No method raises because of MLflow.
    """

    def __init__(self, connection: Connection, run_id: str | None, logged: int):
        self.run_id = run_id
        """To be kept in the checkpoint; None where MLflow could not be reached."""
        self._connection = connection
        self._logged = logged
        self._ended = False
        self._owner = os.getpid()
        self._previous_handler: Any = None

    @classmethod
    def start(
        cls,
        root: Path,
        *,
        experiment: str,
        algorithm: str,
        alpha: str,
        seed: int,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        dataset: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> Self:
        """Begin a run, or go on with an earlier one.

        Args:
            root: folder of params.yaml.
            alpha: as params.yaml writes it.
            parameters: name -> value of everything that determines the result.
            tags: besides algorithm, alpha, seed and what DVC and git tell; `partition` and `fingerprint` are
                hashes, the same as in metrics.json, by which `replay` knows an unfinished run again.
            dataset: `name`, `digest` and, optionally, `folder` and `profile` (a dictionary);
                None: `parameters["data"]` and the partition's hash.
            run_id: the run to go on with. One that no longer exists is begun anew. None: a run of the same
                fingerprint and seed that was cut off before it was known by id, else a new one. The caller
                makes sure that no other process is writing it.
        """
        connection = connect(root)
        tags = {"algorithm": algorithm, "alpha": alpha, "seed": str(seed), **(tags or {})}

        def begin(client: "MlflowClient") -> tuple[str, int]:
            known_id = run_id or cut_off(client, experiment, tags)
            logged = rejoin(client, known_id) if known_id else None
            if logged is not None:
                return known_id, logged
            context = {**_provenance(), **_dvc_tags()}
            return create(client, connection, experiment, {**context, **tags}, parameters, dataset), 0

        begun_id, logged = connection.attempt(begin) or (run_id, 0)
        return cls(connection, begun_id, logged)

    def log_round(self, values: Mapping[str, float], round: int) -> None:
        """Log one round (counted from 1). A round that the run already holds is passed over."""
        if round <= self._logged:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, round) for name, value in values.items()]
        self._attempt(lambda client, run_id: client.log_batch(run_id, metrics=metrics))
        self._logged = round

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of `path` with the run, in its `folder`."""
        self._attempt(lambda client, run_id: client.log_artifact(run_id, str(path), folder))

    def finish(self, summary: Mapping[str, float] | None = None, status: str = "FINISHED") -> None:
        """End the run, with numbers that sum it up. `status`: FINISHED, FAILED or KILLED."""
        if self._ended:
            return
        self._ended = True
        if summary:
            self._attempt(lambda client, run_id: log_values(client, run_id, summary))
        self._attempt(lambda client, run_id: client.set_terminated(run_id, status))

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        else:
            self.finish(status="KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED")
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._owner:
            raise SystemExit(128 + number)
        # A forked worker has inherited this handler; the run is not its own to end.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _attempt(self, action: Any) -> None:
        run_id = self.run_id
        if run_id is not None:
            self._connection.attempt(lambda client: action(client, run_id))


def create(
    client: "MlflowClient",
    connection: Connection,
    experiment: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    dataset: Mapping[str, Any] | None = None,
    start_ms: int | None = None,
) -> str:
    """Make a run (named after its tags algorithm, alpha and seed) with its parameters; returns its id."""
    name = f"{tags['algorithm']} alpha={tags['alpha']} seed={tags['seed']}"
    experiment_id = experiment_of(client, connection, experiment)
    run_id = client.create_run(experiment_id, run_name=name, tags=dict(tags), start_time=start_ms).info.run_id
    _log_parameters(client, run_id, {**parameters, "seed": tags["seed"]})
    _log_dataset(client, run_id, dataset or _default_dataset(experiment, tags, parameters))
    return run_id


def cut_off(client: "MlflowClient", experiment: str, tags: Mapping[str, str]) -> str | None:
    """Id of the unfinished run of the same fingerprint and seed, if there is one."""
    found = client.get_experiment_by_name(experiment)
    if found is None or "fingerprint" not in tags:
        return None
    wanted = f"tags.fingerprint = '{tags['fingerprint']}' and tags.seed = '{tags['seed']}'"
    runs = client.search_runs([found.experiment_id], f"{wanted} and attributes.status != 'FINISHED'", max_results=1)
    return runs[0].info.run_id if runs else None


def rejoin(client: "MlflowClient", run_id: str) -> int | None:
    """Make an earlier run active again; returns its number of rounds, or None if it is gone or was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    if run.info.lifecycle_stage != "active":
        return None
    client.update_run(run_id, status="RUNNING")
    return max((metric.step for metric in client.get_metric_history(run_id, MARKER)), default=0)


def experiment_of(client: "MlflowClient", connection: Connection, name: str) -> str:
    """Id of the experiment called `name`, which is made if there is none and restored if it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=connection.artifacts(name), tags=EXPERIMENT_TAGS)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def log_values(client: "MlflowClient", run_id: str, values: Mapping[str, float]) -> None:
    """Log numbers that belong to no round; at step 0, for which MLflow draws bars."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in values.items()])


def _log_parameters(client: "MlflowClient", run_id: str, parameters: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    entries = [Param(name, str(value)[:VALUE_LENGTH]) for name, value in parameters.items()]
    for first in range(0, len(entries), PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=entries[first : first + PARAMETERS_AT_ONCE])


def _default_dataset(experiment: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> dict[str, Any]:
    name = str(parameters.get("data", experiment))
    return {"name": name, "digest": tags.get("partition", "unknown"), "folder": f"data/prepared/{experiment}"}


def _log_dataset(client: "MlflowClient", run_id: str, dataset: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=dataset["name"],
        digest=dataset["digest"][:36],  # MLflow's limit
        source_type="local",
        source=json.dumps({"uri": dataset.get("folder", "")}),
        profile=json.dumps(dataset["profile"]) if "profile" in dataset else None,
    )
    client.log_inputs(run_id, datasets=[DatasetInput(entity, tags=[InputTag("mlflow.data.context", "training")])])


def _dvc_tags() -> dict[str, str]:
    names = {"DVC_STAGE": "dvc.stage", "DVC_EXP_NAME": "dvc.experiment"}
    return {tag: os.environ[name] for name, tag in names.items() if os.environ.get(name)}


def _provenance() -> dict[str, str]:
    """User, program and git commit, in MLflow's own tags."""
    from mlflow.tracking.context.registry import resolve_tags

    return resolve_tags()
