import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from fedmpq import tracking
from fedmpq.data.batches import normalize
from fedmpq.errors import UserError
from fedmpq.export.packed import pack_float32
from fedmpq.federated.server import Federation
from fedmpq.tracking import models
from fedmpq.tracking.connection import connect

NETWORK = "user_models:normed"
PREDICT = """
import sys
import mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
numpy.save("logits.npy", model.predict(numpy.load("images.npy")))
import fedmpq, user_models
assert all(module.__file__.startswith(sys.argv[1]) for module in (fedmpq, user_models))
"""

MONITOR = "SystemMetricsMonitor"


def threads():
    return [thread.name for thread in threading.enumerate()]


@pytest.fixture(scope="module")
def server(data):
    return Federation(tiny.setup(data, network=NETWORK, activation_bits=4), executor=None)


@pytest.fixture(scope="module")
def images(server):
    return np.array(server.setup.dataset.test_images)


@pytest.fixture(scope="module")
def logits(server, images):
    """What the network itself says of the images."""
    (network, _, activations), data = server.setup.build_model(), server.setup.dataset
    network.eval()
    activations.enabled = False
    with torch.no_grad():
        return network(normalize(torch.tensor(images), torch.tensor(data.mean), torch.tensor(data.std))).numpy()


@pytest.fixture
def training(cell):
    def make(**kwargs):
        usual = cell.training(**kwargs)
        return replace(usual, parameters={**usual.parameters, "model.network": NETWORK})

    return make


@pytest.fixture
def logged(root, cell, server, images, training, monkeypatch):
    """A function that carries out a training and logs its model; returns run and model."""

    def log(**kwargs):
        with tracking.Run(root, training(**kwargs)) as run:
            cell.log(run)
            run.log_model(pack_float32(server, server.initial), server.setup.dataset.classes, images[:2])
        return found(root, cell)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", connect(root).uri)
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow puts the code of a model there.
    return log


def found(root, cell):
    client, run = connect(root).client, cell.runs(root)[-1]
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return run, model


def test_a_model_in_mlflow_says_what_the_network_says(logged, images, logits):
    import mlflow

    _, model = logged()
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    for some in (images, images[:1]):
        np.testing.assert_allclose(loaded.predict(some), logits[: len(some)], rtol=1e-5, atol=1e-6)
    assert loaded.predict(images).dtype == np.float32
    for wrong in (images / 255, images[:, :4], images[0]):
        with pytest.raises(mlflow.MlflowException, match="Failed to enforce schema"):
            loaded.predict(wrong)


def test_it_brings_its_code(logged, images, logits, tmp_path):
    """In a process of its own, which runs the package and the network's module as they were."""
    _, model = logged()
    np.save(tmp_path / "images.npy", images)
    folder = model.artifact_location.removeprefix("file://")
    subprocess.run([sys.executable, "-c", PREDICT, folder], cwd=tmp_path, env={}, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), logits, rtol=1e-5, atol=1e-6)


def test_it_says_what_it_takes_gives_and_needs(logged, images, server):
    from mlflow.models import Model

    _, model = logged()
    about, folder = Model.load(model.model_uri), Path(model.artifact_location.removeprefix("file://"))
    (inputs,), (outputs,) = about.signature.inputs.inputs, about.signature.outputs.inputs
    assert (inputs.type, inputs.shape) == (np.dtype("uint8"), (-1, 8, 8, 3))
    assert (outputs.type, outputs.shape) == (np.dtype("float32"), (-1, 3))
    assert (about.load_input_example(str(folder)) == images[:2]).all()
    assert about.metadata == {"classes": ["red", "green", "blue"]}
    needed = [f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", "numpy", "torch")]
    assert (folder / "requirements.txt").read_text().split() == needed
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds <= {"", ".py", ".fmpq", ".txt", ".yaml", ".json", ".jinja", ".mplstyle"}  # nothing pickled


def test_it_belongs_to_its_run_and_holds_its_last_accuracy(root, cell, logged):
    run, model = logged()
    assert (model.name, model.source_run_id, model.params["algorithm"]) == ("global-model", run.info.run_id, "fedmpq")
    assert model.params["alpha"] == "0.5"
    assert model.tags["mlflow.note.content"] == run.data.tags["mlflow.note.content"]
    assert [(output.model_id, output.step) for output in run.outputs.model_outputs] == [(model.model_id, 3)]
    assert {metric.key: metric.value for metric in model.metrics} == {
        name: run.data.metrics[name] for name in ("test/accuracy", "test/loss")
    }
    assert [step for step, _ in cell.history(root, run)["test/accuracy"]] == [1, 2, 3]


def test_a_run_that_goes_on_has_its_model_once(root, cell, logged, monkeypatch):
    first = logged()[1]
    assert logged()[1].model_id == first.model_id
    connect(root).client.delete_logged_model(first.model_id)

    def fail(*arguments):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(models, "save", fail)
        half = logged()[1]
    assert half.status == "PENDING"
    whole = logged()[1]
    assert whole.status == "READY"
    assert whole.model_id != half.model_id
    assert MONITOR not in threads()


def test_nothing_is_printed(logged, capfd):
    logged()
    assert capfd.readouterr() == ("", "")


def test_a_model_moves_with_its_database(root, logged, another_process, training, images, logits, monkeypatch):
    import mlflow

    logged()
    tracking.register(root, training())
    place = root.with_name(f"{root.name} moved")
    shutil.move(root, place)
    another_process()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", connect(place).uri)
    assert connect(place).client
    loaded = mlflow.pyfunc.load_model("models:/fedmpq-digits-fedmpq/1")
    np.testing.assert_allclose(loaded.predict(images), logits, rtol=1e-5, atol=1e-6)


def test_a_model_is_registered_once(root, logged, training):
    first, second = logged()[1], logged(seed=1)[1]
    said = [tracking.register(root, training(seed=seed)) for seed in (1, 0, 1)]
    assert said == [("fedmpq-digits-fedmpq", version) for version in (1, 2, 1)]
    client = connect(root).client
    versions = {
        seed: client.get_model_version("fedmpq-digits-fedmpq", str(number)) for seed, number in ((1, 1), (0, 2))
    }
    assert [versions[seed].source for seed in (0, 1)] == [first.model_uri, second.model_uri]
    assert versions[0].tags == {"alpha": "0.5", "seed": "0"}
    assert "A training by `fedmpq`, seed 1," in versions[1].description


def test_without_a_model_nothing_is_registered(root, cell, training):
    cell.results(root, seeds=[0])
    tracking.replay(root / "results", root)
    for other in ({}, {"seed": 5}):
        with pytest.raises(UserError, match=r"^MLflow has no logged model of fedmpq at alpha 0\.5, seed \d, .*\)$"):
            tracking.register(root, training(**other))
    assert connect(root).client.search_registered_models() == []


def test_how_busy_the_machine_is_is_logged_on(root, cell, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")

    def steps():
        return [step for step, _ in cell.history(root, *cell.runs(root)).get("system/cpu_utilization_percentage", [])]

    for more in (1, 2):
        with cell.start(root):
            deadline = time.monotonic() + 60
            while len(steps()) < more and time.monotonic() < deadline:
                time.sleep(0.1)
        assert MONITOR not in threads()
    assert steps() == list(range(len(steps())))
    assert len(steps()) > 1


def test_a_short_run_waits_for_no_thread(root, cell):
    with cell.start(root):
        began = time.monotonic()
    assert time.monotonic() - began < 5  # of the 10 s between two looks at the machine
    assert not [name for name in cell.history(root, *cell.runs(root)) if name.startswith("system/")]


def test_it_can_be_forbidden(root, cell, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with cell.start(root):
        assert MONITOR not in threads()
