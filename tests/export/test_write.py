"""What an export leaves, and that it leaves nothing where it fails."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import fedmpq
from fedmpq.config import Execution
from fedmpq.engine.cell import Cell
from fedmpq.engine.seed_run import SeedRun
from fedmpq.errors import UserError
from fedmpq.export import write
from fedmpq.export.packed import load

NETWORK = "user_models:normed"
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """The run of three clients of one budget, whose last device accuracy is that of any of them."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(data, root / "data/prepared/tiny")
    changes = {"network": NETWORK, "activation_bits": 4, "evaluate_quantized": 1, "rounds": 3, "lr": 0.02}
    settings = tiny.experiment((3, 3, 3), **changes)
    run = SeedRun(Cell(root, "tiny", settings, "fedmpq", 0.5, "0.5", torch.device("cpu"), "float32"), 0)
    list(run.rounds(Execution(executor="sequential")))
    return run


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The folder of an export, and what model.json holds."""
    folder = tmp_path_factory.mktemp("exports") / "budget-3"
    return folder, write.export(trained.cell, 0, trained.model_file, 3, None, folder)


def test_the_files_are_those_of_the_device(trained, exported):
    folder, about = exported
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "model.fmpq", "model.json"}
    assert json.loads((folder / "model.json").read_text()) == about
    last, _ = list(trained.past())[-1]
    assert about["accuracy"]["PyTorch"] == about["accuracy"]["ONNX Runtime"] == last["device_accuracy"]
    assert about["accuracy"]["float32"] == last["test_accuracy"]
    assert about["bytes"] == {name: about["bytes"][name] for name in ("float32", "model.fmpq", "model.onnx")}
    assert about["bytes"]["model.fmpq"] == (folder / "model.fmpq").stat().st_size < about["bytes"]["float32"]
    assert about["classes"] == ["red", "green", "blue"]


def test_bits_are_those_of_the_clients_agreement(trained, exported):
    state = write.read_state(trained.cell.setup(0), trained.model_file)
    assert state.round == 3
    assert state.consensus is not None
    server = write.Federation(trained.cell.setup(0), executor=None)
    expected = trained.cell.setup(0).algorithm.allocate(server.view(state), 3)
    folder, about = exported
    assert tuple(layer["bits"] for layer in about["layers"]) == expected
    assert load(folder / "model.fmpq", NETWORK).message.bits == expected


@pytest.mark.parametrize(("only", "name"), [("onnx", "model.onnx"), ("packed", "model.fmpq")])
def test_one_format_alone(trained, tmp_path, only, name):
    write.export(trained.cell, 0, trained.model_file, 8, only, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {name, "model.json"}


def test_statistics_that_clients_have_measured_are_part_of_the_files(trained, exported, tmp_path):
    folder, before = exported
    about = write.export(trained.cell, 0, trained.model_file, 3, None, tmp_path / "out", images=8)
    assert (before["calibration_images"], about["calibration_images"]) == (0, 8)
    assert about["layers"] == before["layers"]
    models = [load(place / "model.fmpq", NETWORK).network.state_dict() for place in (folder, tmp_path / "out")]
    differ = {key for key, value in models[0].items() if not value.equal(models[1][key])}
    assert differ == {key for key in models[0] if "running" in key}


def test_nothing_is_left_where_they_disagree(trained, exported, tmp_path, monkeypatch):
    folder, _ = exported
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    true = write.as_onnx

    def false(device):
        device.network[-1].bias += torch.tensor([9.0, 0, 0])
        return true(device)

    monkeypatch.setattr(write, "as_onnx", false)
    for place in (folder, tmp_path / "fresh"):
        with pytest.raises(UserError, match=r"^ONNX Runtime agrees with PyTorch on \d+\.\d\d% .* nothing is written$"):
            write.export(trained.cell, 0, trained.model_file, 3, None, place)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("images", "allowed", "most"), [(40, None, 1), (1999, None, 1), (2000, None, 2), (40, 0, 0), (2000, 5, 5)]
)
def test_one_image_in_a_thousand_may_differ_at_least_one_or_what_is_allowed(images, allowed, most):
    says = np.eye(2, dtype=np.float32)
    pixels = np.zeros((images, 1, 1, 3), np.uint8)
    data = SimpleNamespace(test_images=pixels, test_labels=np.zeros(images))
    runs = {"PyTorch": lambda batch: says[batch[:, 0, 0, 0] * 0], "ONNX Runtime": lambda batch: says[batch[:, 0, 0, 0]]}
    pixels[:most] = 1
    assert write._compared(runs, data, allowed)["differing"] == most
    pixels[most] = 1
    with pytest.raises(UserError, match=f": {most + 1} differ, {most} may "):
        write._compared(runs, data, allowed)


def test_what_onnx_runtime_cannot_load_is_said(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "as_onnx", lambda device: b"no graph")
    with pytest.raises(UserError, match=r"^ONNX Runtime cannot load the model: [^\n]+$"):
        write.export(trained.cell, 0, trained.model_file, 3, None, tmp_path / "out")


@pytest.mark.parametrize("fault", ["absent", "rubbish", "other names", "other shapes", "no consensus"])
def test_a_model_of_other_parameters_is_refused(trained, tmp_path, fault):
    path, state = tmp_path / "model.pt", torch.load(trained.model_file, weights_only=True)
    shutil.copy(trained.consensus_file, tmp_path)
    name = next(iter(state))
    if fault == "other names":
        state["more"] = state.pop(name)
    if fault == "other shapes":
        state[name] = state[name][:1]
    if fault == "no consensus":
        (tmp_path / "consensus.json").unlink()
    torch.save(state, path)
    if fault == "rubbish":
        path.write_bytes(b"rubbish")
    if fault == "absent":
        path.unlink()
    with pytest.raises(UserError, match=r"model\.pt cannot be read as a model of these parameters: [^\n]+$"):
        write.read_state(trained.cell.setup(0), path)


def test_the_program_of_the_readme(trained, exported):
    folder, _ = exported
    section = README.read_text().partition("## Use the model")[2]
    program = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in program.splitlines() if line]) == 5
    images = trained.cell.setup(0).dataset.test_images[:3]
    expected = fedmpq.load(folder / "model.fmpq", NETWORK)(torch.from_numpy(np.array(images))).argmax(1)
    for image, number in zip(images, expected, strict=True):
        Image.fromarray(image).save(folder / "image.png")
        said = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
        assert said.split() == [str(int(number))]
    (folder / "image.png").unlink()
