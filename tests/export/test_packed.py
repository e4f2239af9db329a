"""A model comes back from its file as it was written."""

import json
import subprocess
import sys

import pytest
import torch

import fedmpq
from fedmpq.errors import UserError
from fedmpq.export.packed import Device, pack
from fedmpq.federated.activations import ActivationQuantizer

LOAD = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import fedmpq
assert "torch" not in sys.modules
import torch
images = torch.load("images.pt")
torch.save(fedmpq.load("model.fmpq")(images), "logits.pt")
"""
REFUSED = ["pydantic", "ruamel", "lightning", "mlflow", "dvc", "optuna", "pandas", "datasets", "pyarrow", "PIL", "tqdm"]
REFUSED += ["psutil", "joblib", "filelock", "torchvision", "onnx", "onnx_ir", "onnxscript", "onnxruntime"]


@pytest.fixture
def file(message, tmp_path):
    path = tmp_path / "model.fmpq"
    path.write_bytes(pack(*message("resnet8", (4, 2))))
    return path


def test_reading_takes_numpy_and_torch_alone(file, message, images):
    torch.save(images, file.with_name("images.pt"))
    code = LOAD.format(refused=REFUSED)
    subprocess.run([sys.executable, "-c", code], cwd=file.parent, check=True)
    expected = Device(*message("resnet8", (4, 2)))(images)
    assert torch.equal(torch.load(file.with_name("logits.pt")), expected)


def test_it_is_in_evaluation_mode_and_says_what_it_is(file):
    model = fedmpq.load(file)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.card.classes == ["red", "green", "blue"]
    assert [*model.message.bits[:2]] == [4, 2]
    assert "load" in dir(fedmpq)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        fedmpq.lode  # noqa: B018


def test_full_precision_has_no_quantized_activations(message, images, monkeypatch):
    device = Device(*message("user_models:perceptron", None))
    expected = device(images)
    monkeypatch.setattr(ActivationQuantizer, "_quantize", lambda self, layer, inputs, output: output)
    assert torch.equal(device(images), expected)


@pytest.mark.parametrize("change", ["cut", "flipped", "header", "keys", "empty", "absent"])
def test_a_damaged_file_is_named(file, change):
    data = file.read_bytes()
    header, _, message = data.partition(b"\n")
    broken = {
        "cut": data[:-1],
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "header": b"\xff" + data,
        "keys": json.dumps(json.loads(header) | {"more": 1}).encode() + b"\n" + message,
        "empty": b"",
    }
    file.unlink() if change == "absent" else file.write_bytes(broken[change])
    with pytest.raises(UserError, match=r"model\.fmpq is missing or damaged: [^\n]+$"):
        fedmpq.load(file)


def test_a_file_does_not_decide_what_code_runs(file, message):
    file.write_bytes(pack(*message("user_models:perceptron", (4,))))
    for allowed in (None, "user_models:linear"):
        with pytest.raises(UserError, match="allow that it is called: network='user_models:perceptron'"):
            fedmpq.load(file, allowed)
    assert fedmpq.load(file, "user_models:perceptron").message.bits == (4, 4)
