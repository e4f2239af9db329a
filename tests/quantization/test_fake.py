import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers import BITS, WEIGHTS, grid_of

from fedmpq.quantization.codes import FULL_RANGE
from fedmpq.quantization.fake import fake_quantize, quantize_activation, straight_through


def gradient_of(function, tensor):
    """Gradient of sum(c * function(tensor)) for some c, and c."""
    weights = torch.linspace(-2, 3, tensor.numel()).reshape(tensor.shape).to(tensor.dtype)
    tensor = tensor.clone().requires_grad_()
    (function(tensor) * weights).sum().backward()
    return tensor.grad, weights


def test_straight_through_is_the_values_forward_and_the_identity_backward():
    tensor, values = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([7.0, 8.0, 9.0])
    assert torch.equal(straight_through(tensor, values), values)
    gradient, expected = gradient_of(lambda t: straight_through(t, values), tensor)
    assert torch.equal(gradient, expected)


def test_the_gradient_goes_through_whatever_comes_before_and_after():
    tensor = torch.tensor([0.5, -1.5], requires_grad=True)
    straight_through(3 * tensor, torch.tensor([2.0, 4.0])).square().sum().backward()
    assert tensor.grad.tolist() == [3 * 2 * 2.0, 3 * 2 * 4.0]


@given(WEIGHTS, BITS)
def test_quantized_weights_forward_and_the_identity_backward(weights, bits):
    grid = grid_of(bits, FULL_RANGE.scale(weights, bits))
    before = weights.clone()
    values, codes = fake_quantize(weights, grid)
    assert torch.equal(codes, grid.encode(weights))
    assert torch.equal(values, grid.decode(codes))
    assert torch.equal(weights, before)
    gradient, expected = gradient_of(lambda w: fake_quantize(w, grid)[0], weights)
    assert torch.equal(gradient, expected)


def test_codes_carry_no_gradient():
    weights = torch.randn(5, requires_grad=True)
    values, codes = fake_quantize(weights, grid_of(4, 3.0))
    assert values.requires_grad
    assert not codes.requires_grad


ACTIVATIONS = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30).map(torch.tensor)


@given(ACTIVATIONS, st.floats(2**-10, 200, width=32), BITS)
def test_activations_take_the_nearest_of_the_levels_up_to_the_maximum(activation, maximum, bits):
    before = activation.clone()
    quantized = quantize_activation(activation, torch.tensor(maximum), bits)
    assert torch.equal(activation, before)
    levels = torch.arange(2.0**bits) * maximum / (2**bits - 1)
    distance = (quantized.unsqueeze(-1) - levels).abs()
    torch.testing.assert_close(quantized, levels[distance.argmin(-1)])
    nearest = (activation.unsqueeze(-1) - levels).abs().amin(-1)
    assert ((activation - quantized).abs() <= nearest + 1e-4 * maximum).all()


def test_activation_levels_by_hand():
    activation = torch.tensor([0.0, 0.4, 0.6, 1.4, 1.6, 2.9, 3.0, 50.0])
    assert quantize_activation(activation, torch.tensor(3.0), 2).tolist() == [0, 0, 1, 1, 2, 3, 3, 3]
    assert quantize_activation(activation, torch.tensor(3.0), 1).tolist() == [0, 0, 0, 0, 3, 3, 3, 3]


@given(ACTIVATIONS, st.sampled_from([0.0, 0.5, 50.0]), BITS)
def test_gradient_of_activations_is_the_identity_also_where_they_saturate(activation, maximum, bits):
    gradient, expected = gradient_of(lambda a: quantize_activation(a, torch.tensor(maximum), bits), activation)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_maximum_of_zero_leaves_only_zero(dtype):
    quantized = quantize_activation(torch.tensor([0.0, 1e-3, 1.0, 1e30], dtype=dtype), torch.tensor(0.0), 4)
    assert (quantized == 0).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_activations_in_bfloat16_stay_there(bits):
    activation = torch.linspace(0, 6, 1000).bfloat16()
    quantized = quantize_activation(activation, torch.tensor(6.0), bits)
    assert quantized.dtype == torch.bfloat16
    assert 2 ** (bits - 1) < len(quantized.unique()) <= 2**bits
    step = 6 / (2**bits - 1)
    assert (quantized.float() - activation.float()).abs().max() <= 0.5 * step + 6 * 2**-8
    gradient, expected = gradient_of(lambda a: quantize_activation(a, torch.tensor(6.0), bits), activation)
    assert gradient.dtype == torch.bfloat16
    assert torch.equal(gradient, expected)


@given(ACTIVATIONS, st.sampled_from([torch.float32, torch.bfloat16]), BITS)
def test_activations_that_are_known_to_be_in_the_range_are_the_same_without_looking(activation, dtype, bits):
    activation = activation.to(dtype)
    maximum = activation.amax().float()
    within = quantize_activation(activation, maximum, bits, within=True)
    assert torch.equal(within, quantize_activation(activation, maximum, bits))
