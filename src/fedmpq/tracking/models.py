"""The model of a run as MLflow keeps it: model.fmpq and code, of which `mlflow.pyfunc.load_model` makes it."""

import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmpq.engine.method import SOURCE, method_files
from fedmpq.tracking.notes import NOTE

if TYPE_CHECKING:
    from mlflow import entities
    from mlflow.models import Model
    from mlflow.tracking import MlflowClient

NAME = "global-model"
REQUIRED = ("mlflow", "numpy", "torch")
LOADER = "fedmpq.export.packed"
MEASURED = ("test/accuracy", "test/loss")


def log_model(
    client: "MlflowClient", run_id: str, content: bytes, classes: list[str], example: NDArray[np.uint8]
) -> None:
    """Let a run have its model, unless it has it; one whose logging was cut off is replaced.

    Args:
        client: of MLflow.
        run_id: of the run, which has the parameter `model.network`.
        content: of model.fmpq.
        classes: their names, in the order of the logits.
        example: some images (N, S, S, 3).
    """
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    run = client.get_run(run_id)
    if model_of(client, run):
        return
    for rest in _models_of(client, run):
        client.delete_logged_model(rest.model_id)
    tags, parameters = {NOTE: run.data.tags.get(NOTE, "")}, run.data.params
    made = client.create_logged_model(run.info.experiment_id, NAME, run_id, tags, parameters)
    about = Model(made.artifact_location, run_id, model_id=made.model_id, model_uuid=made.model_id)
    about.metadata = {"classes": classes}
    with TemporaryDirectory() as folder:
        save(Path(folder, "model"), content, parameters["model.network"], example, len(classes), about)
        client.log_model_artifacts(made.model_id, str(Path(folder, "model")))
    # As they stand in the run, or it would hold them twice.
    last = [history[-1] for name in MEASURED if (history := client.get_metric_history(run_id, name))]
    metrics = [Metric(one.key, one.value, one.timestamp, one.step, made.model_id) for one in last]
    client.log_batch(run_id, metrics)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, max((one.step for one in last), default=0))])
    client.finalize_logged_model(made.model_id, "READY")


def save(
    folder: Path, content: bytes, network: str, example: NDArray[np.uint8], classes: int, about: "Model | None" = None
) -> None:
    """Write a model as MLflow has it: model.fmpq, this package's code and the network's own, what is to be installed.

    Args:
        folder: is made.
        content: of model.fmpq.
        network: as in params.yaml.
        example: some images (N, S, S, 3).
        classes: number of them.
        about: what else MLflow is to know of it.
    """
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    images = TensorSpec(np.dtype("uint8"), (-1, *example.shape[1:]))
    logits = TensorSpec(np.dtype("float32"), (-1, classes))
    with TemporaryDirectory() as temporary, warnings.catch_warnings(action="ignore"):
        packed = Path(temporary, "model.fmpq")
        packed.write_bytes(content)
        mlflow.pyfunc.save_model(
            folder,
            loader_module=LOADER,
            data_path=str(packed),
            code_paths=[str(SOURCE / "fedmpq")],
            model_config={"network": network},
            signature=ModelSignature(Schema([images]), Schema([logits])),
            input_example=np.array(example),
            # Without what distinguishes a build (2.14.1+cpu), which is nowhere to be installed from.
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIRED],
            mlflow_model=about,
        )
    for module, file in method_files("fp32", network).items():
        place = folder / "code" / Path(*module.split("."))
        place = place / file.name if file.name == "__init__.py" else place.with_suffix(".py")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def model_of(client: "MlflowClient", run: "entities.Run") -> "entities.LoggedModel | None":
    """The model that `run` has logged as a whole."""
    return next((model for model in _models_of(client, run) if model.status == "READY"), None)


def _models_of(client: "MlflowClient", run: "entities.Run") -> list["entities.LoggedModel"]:
    same = f"source_run_id = '{run.info.run_id}' and name = '{NAME}'"
    return client.search_logged_models([run.info.experiment_id], same)
