"""What a training left in MLflow: the files of its model, and its place in MLflow's registry."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedmpq.errors import UserError
from fedmpq.tracking.connection import connect
from fedmpq.tracking.metrics import Training
from fedmpq.tracking.models import model_of
from fedmpq.tracking.notes import NOTE
from fedmpq.tracking.run import runs_of

if TYPE_CHECKING:
    from mlflow import entities
    from mlflow.tracking import MlflowClient


def fetch_model(root: Path, training: Training, folder: Path) -> Path:
    """Copy what the newest run of `training` keeps in its folder `model` into `folder`; returns where it is.

    Raises:
        UserError: MLflow cannot be used, or has no such run.
    """
    with connect(root).required() as client:
        for run in _runs(client, training):
            if client.list_artifacts(run.info.run_id, "model"):
                return Path(client.download_artifacts(run.info.run_id, "model", str(folder)))
    raise _missing(training, "trained", ", or name it with --checkpoint")


def register(root: Path, training: Training) -> tuple[str, int]:
    """Give the model of the newest run of `training` that logged one a version in MLflow's registry, unless it has one.

    Returns:
        The name under which it is registered, e.g. fedmpq-digits-aqfl, and the version.

    Raises:
        UserError: MLflow cannot be used, or no such run has logged a model.
    """
    name = f"fedmpq-{training.experiment}-{training.algorithm}"
    with connect(root).required() as client:
        found = ((run, model) for run in _runs(client, training) if (model := model_of(client, run)))
        for run, model in found:
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            source = f"models:/{model.model_id}"
            same = [one for one in client.search_model_versions(f"name = '{name}'") if one.source == source]
            about = {"run_id": run.info.run_id, "model_id": model.model_id, "description": run.data.tags.get(NOTE)}
            tags = {key: training.tags[key] for key in ("alpha", "seed")}
            return name, int((same or [client.create_model_version(name, source, tags=tags, **about)])[0].version)
    raise _missing(training, "logged", "")


def _runs(client: "MlflowClient", training: Training) -> Iterator["entities.Run"]:
    experiment = client.get_experiment_by_name(training.experiment)
    yield from runs_of(client, experiment.experiment_id, training) if experiment else []


def _missing(training: Training, kind: str, advice: str) -> UserError:
    return UserError(
        f"MLflow has no {kind} model of {training.algorithm} at alpha {training.alpha}, seed {training.seed}, with"
        f" these parameters; train it (make repro; if there are results, python -m pipeline.train --overwrite){advice}"
    )
