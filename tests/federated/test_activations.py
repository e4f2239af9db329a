import pytest
import torch
from torch import nn

from fedmpq.errors import UserError
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.layout import Layout
from fedmpq.models import build_model


def rectifier(bits):
    model = nn.Sequential(nn.ReLU())
    return model, ActivationQuantizer(model, bits)


def maxima(model):
    return [float(value) for key, value in model.state_dict().items() if key.endswith("activation_maximum")]


def test_the_range_is_the_running_maximum_while_training():
    model, _ = rectifier(2)
    assert model(torch.tensor([-1.0, 0.4, 3.0])).tolist() == [0, 0, 3]
    assert model(torch.tensor([-1.0, 0.6, 1.4])).tolist() == [0, 1, 1]
    assert model(torch.tensor([6.0, 1.1])).tolist() == [6, 2]
    assert maxima(model) == [6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_range_is_the_largest_value_in_every_precision(dtype):
    model, _ = rectifier(2)
    model(torch.tensor([-7.0, 0.0, -0.0, 1.5, 2.25], dtype=dtype))
    assert maxima(model) == [2.25]
    model(torch.tensor([-7.0, -0.0], dtype=dtype))
    assert maxima(model) == [2.25]


def test_the_range_stays_in_evaluation_and_larger_activations_saturate():
    model, _ = rectifier(2)
    model(torch.tensor([3.0]))
    model.eval()
    assert model(torch.tensor([50.0, 1.6])).tolist() == [3, 2]
    assert maxima(model) == [3]


def test_reset_forgets_the_range():
    model, quantizer = rectifier(2)
    model(torch.tensor([30.0]))
    quantizer.reset()
    assert maxima(model) == [0]
    assert model(torch.tensor([3.0, 1.1])).tolist() == [3, 1]


def test_switched_off_nothing_is_quantized_or_recorded():
    model, quantizer = rectifier(1)
    quantizer.enabled = False
    assert model(torch.tensor([0.3, 0.7, 5.0])).tolist() == pytest.approx([0.3, 0.7, 5])
    assert maxima(model) == [0]


def test_every_relu_has_a_range_of_its_own_which_travels_with_the_model():
    model = build_model("resnet8", 3, 8)
    ActivationQuantizer(model, 4)
    model(torch.randn(4, 3, 8, 8))
    assert len(set(maxima(model))) == 7
    assert sum(key.endswith("activation_maximum") for key in Layout.of(model).remainder) == 7


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_what_leaves_a_relu_has_so_many_levels(bits):
    model = build_model("resnet8", 3, 8)
    ActivationQuantizer(model, bits)
    outputs = []
    for index in range(1, 8):
        model.get_submodule(f"relu{index}").register_forward_hook(lambda _m, _i, output: outputs.append(output))
    model(torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert all(2 ** (bits - 1) <= len(output.unique()) <= 2**bits for output in outputs)


def test_gradients_pass_as_if_nothing_were_quantized():
    model, _ = rectifier(1)
    inputs = torch.tensor([-1.0, 0.2, 0.9, 4.0], requires_grad=True)
    (model(inputs) * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert inputs.grad.tolist() == [0, 2, 3, 4]


def test_a_model_without_activation_layers_is_refused_with_what_to_do():
    said = r"^model\.activation_bits: the model has none of the layers ReLU, ReLU6, GELU, .*; allowed for it: null"
    with pytest.raises(UserError, match=said):
        ActivationQuantizer(build_model("user_models:linear", 3, 8), 4)
