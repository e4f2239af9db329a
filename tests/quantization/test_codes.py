import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers import BITS, SCALES, WEIGHTS, grid_of, levels

from fedmpq.quantization.codes import FULL_RANGE, NORMAL, QUANTIZERS, from_planes, planes

ALL_BITS = range(1, 9)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_planes_are_the_digits_of_the_codes_most_significant_first(bits):
    codes = torch.arange(2**bits)
    digits = [[int(digit) for digit in f"{code:0{bits}b}"] for code in codes.tolist()]
    assert planes(codes, bits).T.tolist() == digits


ANY = st.sampled_from(list(QUANTIZERS.values()))


@given(BITS, st.lists(st.integers(0, 255), min_size=6, max_size=6))
def test_planes_and_back(bits, values):
    codes = (torch.tensor(values) % 2**bits).reshape(2, 3)
    bit_planes = planes(codes.float(), bits)
    assert bit_planes.shape == (bits, 2, 3)
    assert torch.equal(from_planes(bit_planes), codes)


@given(WEIGHTS, BITS)
def test_codes_are_whole_numbers_within_the_bits(weights, bits):
    codes = grid_of(bits, FULL_RANGE.scale(weights, bits)).encode(weights)
    assert torch.equal(codes, codes.round())
    assert codes.min() >= 0
    assert codes.max() <= 2**bits - 1


@given(WEIGHTS, st.integers(2, 8))
def test_no_value_is_further_than_half_a_step_from_its_weight(weights, bits):
    grid = grid_of(bits, FULL_RANGE.scale(weights, bits))
    error = (grid.decode(grid.encode(weights)) - weights).abs().max()
    assert error <= 0.5 * grid.step_size * (1 + 1e-4)


@given(WEIGHTS, BITS, SCALES, ANY)
def test_the_code_is_that_of_the_nearest_level_also_outside_the_range(weights, bits, scale, quantizer):
    grid = grid_of(bits, scale, quantizer)
    error = (grid.decode(grid.encode(weights)) - weights).abs()
    least = (levels(grid) - weights.unsqueeze(-1)).abs().amin(-1)
    assert (error <= least + 1e-3 * grid.step_size + 1e-5 * weights.abs()).all()


@given(BITS, SCALES, ANY)
def test_a_value_on_the_grid_keeps_its_code(bits, scale, quantizer):
    grid = grid_of(bits, scale, quantizer)
    codes = torch.arange(2.0**bits)
    assert torch.equal(grid.encode(grid.decode(codes)), codes)
    double = quantizer.grid(torch.tensor(bits), torch.tensor(scale, dtype=torch.float64))
    assert torch.equal(double.encode(double.decode(codes.double())), codes.double())


@given(BITS, SCALES, ANY, st.sampled_from([-1, 1]))
def test_rounding_to_bfloat16_does_not_change_the_code_of_a_value(bits, scale, quantizer, direction):
    grid = grid_of(bits, scale, quantizer)
    codes = torch.arange(2.0**bits)
    values = grid.decode(codes)
    assert torch.equal(grid.encode(values.bfloat16().float()), codes)
    assert torch.equal(grid.encode(values * (1 + direction * 2**-9)), codes)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_a_layer_of_zeros_stays_exactly_zero(bits):
    weights = torch.zeros(2, 3)
    scale = FULL_RANGE.scale(weights, bits)
    grid = grid_of(bits, scale)
    assert scale == 0
    assert (grid.decode(grid.encode(weights)) == 0).all()
    if bits > 1:
        assert (grid.encode(weights) == 2 ** (bits - 1)).all()


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_printed_scale_overflows_and_twice_that_does_not(bits):
    """With s = max W the codes of [-s, s] run from z - step to z + step, with s = 2 max |w| they fit."""
    weights = torch.linspace(-3, 3, 1001)
    step, zero, largest = 2**bits - 1, 2 ** (bits - 1), weights.abs().max()
    literal = torch.round(weights * step / largest + zero)
    assert (literal.min(), literal.max()) == (zero - step, zero + step)
    assert literal.min() < 0
    assert literal.max() > step
    ours = grid_of(bits, FULL_RANGE.scale(weights, bits)).encode(weights)
    assert (ours.min(), ours.max()) == (1, step)


@given(WEIGHTS.filter(lambda weights: weights.any()))
def test_at_one_bit_the_printed_formula_would_switch_a_layer_off(weights):
    step, zero, scale = 1, 1, 2 * weights.abs().max()
    inside = weights[weights.abs() < scale / 2]
    literal = (torch.round(inside * step / scale + zero) - zero) * scale / step
    assert (literal == 0).all()
    ours = grid_of(1, FULL_RANGE.scale(weights, 1))
    values, mean = ours.decode(ours.encode(weights)), weights.abs().mean()
    torch.testing.assert_close(values.abs(), mean.expand_as(weights))
    signed = weights.abs() > 1e-6 * mean
    assert torch.equal(torch.sign(values)[signed], torch.sign(weights)[signed])


@given(WEIGHTS, st.floats(0, 1e4), st.integers(0, 2**32))
def test_no_other_two_levels_are_nearer_in_the_mean_square(weights, magnitude, seed):
    def error(values):
        return (values.double() - weights.double()).square().mean()

    ours = grid_of(1, FULL_RANGE.scale(weights, 1))
    least = error(ours.decode(ours.encode(weights)))
    random = torch.randint(0, 2, weights.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    for signs in (random, torch.where(weights < 0, -1, 1)):
        assert least <= error(signs * magnitude) + 1e-5 * weights.square().mean()


@given(WEIGHTS, BITS, ANY)
def test_a_scale_is_zero_only_for_a_layer_of_zeros(weights, bits, quantizer):
    assert (quantizer.scale(weights, bits) > 0) == weights.any()


def test_scales():
    weights = torch.tensor([[1.0, -3.0], [0.0, 2.0]])
    assert FULL_RANGE.scale(weights, 4) == 6
    assert NORMAL.scale(weights, 4) == pytest.approx(15 * 0.335 * 3.5**0.5)
    assert FULL_RANGE.scale(weights, 1) == NORMAL.scale(weights, 1) == 3


@given(BITS, SCALES)
def test_levels_of_the_normal_quantizer_are_symmetric(bits, scale):
    symmetric = levels(grid_of(bits, scale, NORMAL))
    assert torch.equal(symmetric, -symmetric.flip(0))
    if bits == 1:
        assert torch.equal(symmetric, levels(grid_of(bits, scale)))


@pytest.mark.parametrize("bits", range(2, 9))
def test_normal_scale_is_nearly_the_best_for_a_normal_distribution(bits):
    weights = 0.02 * torch.special.ndtri((torch.arange(50_000) + 0.5) / 50_000)

    def error(factor):
        grid = grid_of(bits, factor * NORMAL.scale(weights, bits), NORMAL)
        return (grid.decode(grid.encode(weights)) - weights).square().mean()

    assert error(1) < 1.02 * min(error(0.8 + 0.04 * i) for i in range(11))
    assert NORMAL.relative_error(weights, bits) < 0.95 * FULL_RANGE.relative_error(weights, bits)


@given(st.lists(st.tuples(WEIGHTS, BITS), min_size=1, max_size=4))
def test_all_layers_at_once_equal_layer_by_layer(layers):
    flat = torch.cat([weights.flatten() for weights, _ in layers])
    scales = torch.stack([FULL_RANGE.scale(weights, bits) for weights, bits in layers])
    sizes = torch.tensor([weights.numel() for weights, _ in layers])
    grid = FULL_RANGE.grid(torch.tensor([bits for _, bits in layers]), scales).expand(sizes)
    alone = [grid_of(bits, scale) for (_, bits), scale in zip(layers, scales, strict=True)]
    codes = [each.encode(weights.flatten()) for each, (weights, _) in zip(alone, layers, strict=True)]
    values = [each.decode(layer) for each, layer in zip(alone, codes, strict=True)]
    assert torch.equal(grid.encode(flat), torch.cat(codes))
    assert torch.equal(grid.decode(grid.encode(flat)), torch.cat(values))
