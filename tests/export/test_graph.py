"""ONNX Runtime computes what PyTorch does, of integers."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fedmpq.errors import UserError
from fedmpq.export.graph import as_onnx
from fedmpq.export.packed import Device

TYPES = {2: onnx.TensorProto.UINT2, 4: onnx.TensorProto.UINT4, 8: onnx.TensorProto.UINT8}


def integers(model):
    """The types of the integer weights, in the order of the layers."""
    return [tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith(".codes")]


def operators(model):
    return [node.op_type for node in model.graph.node]


def agree(model, device, images):
    """Whether logits differ by no more than an order of additions makes them."""
    session = onnxruntime.InferenceSession(model)
    found = [session.run(None, {"images": part.numpy()})[0] for part in (images, images[:1])]
    expected = device(images).numpy()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_allclose(found[1], expected[:1], atol=1e-5)


@pytest.mark.parametrize(
    ("network", "bits", "activation_bits", "quantizer", "types"),
    [
        ("user_models:convolutional", (1, 3), 4, "full-range", [2, 4]),
        ("user_models:convolutional", (2, 8), 8, "normal", [2, 8]),
        ("own_models:Repeated", (4, 5, 2), 3, "normal", [4, 8, 2]),
        ("own_models:relu6", (2, 4), 4, "full-range", [2, 4]),
        ("own_models:gelu", (7, 8), 5, "full-range", [8, 8]),
        ("own_models:gelu", (4, 4), None, "full-range", [4, 4]),
    ],
)
def test_values_are_those_of_pytorch(message, images, network, bits, activation_bits, quantizer, types):
    card, sent = message(network, bits, activation_bits, quantizer)
    data = as_onnx(Device(card, sent))
    agree(data, Device(card, sent), images)
    model = onnx.load_from_string(data)
    assert integers(model) == [TYPES[width] for width in types]
    weights = {shape for shape in Device(card, sent).layout.weights.values()}
    assert not [t.name for t in model.graph.initializer if t.data_type == 1 and torch.Size(t.dims) in weights]
    assert ("QuantizeLinear" in operators(model)) == (activation_bits is not None)


def test_of_attention_too(message, images):
    card, sent = message("own_models:transformer", (4, 2))
    data = as_onnx(Device(card, sent))
    agree(data, Device(card, sent), images)
    assert set(integers(onnx.load_from_string(data))) == {TYPES[4], TYPES[2]}


def test_full_precision_stays_floating_point(message, images):
    card, sent = message("own_models:Repeated", None)
    data = as_onnx(Device(card, sent))
    agree(data, Device(card, sent), images)
    model = onnx.load_from_string(data)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {*operators(model)}


def test_the_model_says_what_its_classes_are_and_nothing_of_who_made_it(message):
    model = onnx.load_from_string(as_onnx(Device(*message("user_models:convolutional", (4,)))))
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "class_0": "red",
        "class_1": "green",
        "class_2": "blue",
    }
    assert b".py" not in model.SerializeToString()


@pytest.mark.parametrize(
    ("network", "said"), [("Odd", "No ONNX function found for .*bessel_i0"), ("Branching", "data-dependent expression")]
)
def test_what_cannot_be_exported_is_named(message, capfd, network, said):
    with pytest.raises(UserError, match=rf"^model\.network: 'own_models:{network}' cannot be exported.*: .*{said}.*$"):
        as_onnx(Device(*message(f"own_models:{network}", (4,), None)))
    assert capfd.readouterr().err == ""
