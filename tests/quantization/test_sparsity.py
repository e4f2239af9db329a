import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers import BITS, WEIGHTS, grid_of

from fedmpq.quantization.codes import FULL_RANGE, QUANTIZERS, Grid, from_planes, planes
from fedmpq.quantization.sparsity import bit_plane_lasso, magnitudes, ones_per_plane, prune_bits, top_plane_share

WIDE = st.integers(2, 8)
SHARES = st.floats(0, 1)


def skewed(seed, count=400):
    """Weights most of which are small, a few large."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator) * torch.rand(count, generator=generator) ** 6


def lasso_of(weights, grid, coefficient=1.0):
    """Penalty of one layer and its gradient by the weights."""
    weights = weights.clone().requires_grad_()
    layers = torch.zeros(weights.numel(), dtype=torch.int64)
    per_weight = Grid(*(field.expand(weights.shape) for field in grid))
    penalty = bit_plane_lasso(weights, grid.encode(weights.detach()), per_weight, layers, torch.tensor([coefficient]))
    penalty.backward()
    return penalty.detach(), weights.grad


def literal_lasso(weights, grid, bits, coefficient=1.0):
    """The same over explicit planes: their gradients by autograd, recombined to weights."""
    offsets = grid.encode(weights) - grid.zero
    magnitude = offsets.abs().clamp(max=2 ** (bits - 1) - 1)
    bit_planes = planes(magnitude, bits - 1).float().requires_grad_()
    penalty = coefficient * sum(plane.square().sum().sqrt() for plane in bit_planes if plane.any())
    if not bits > 1 or not bit_planes.any():
        return torch.tensor(0.0), torch.zeros_like(weights)
    penalty.backward()
    return penalty.detach(), from_planes(bit_planes.grad) * torch.sign(offsets) * grid.step_size


def test_magnitudes_saturate():
    codes = torch.arange(16.0)
    grid = grid_of(4, 1.0)
    assert magnitudes(codes, grid).tolist() == [7, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7]
    assert magnitudes(torch.tensor([0.0, 1.0]), grid_of(1, 1.0)).tolist() == [0, 0]
    assert magnitudes(torch.tensor([0.0, 1.0, 2.0, 3.0]), grid_of(2, 1.0)).tolist() == [1, 1, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 3)), max_size=60))
def test_ones_per_plane_are_counted(entries):
    magnitude, layers = torch.tensor(entries, dtype=torch.int64).reshape(-1, 2).T
    counted = [[sum(m >> i & 1 for m, of in entries if of == layer) for i in range(7)] for layer in range(4)]
    assert ones_per_plane(magnitude, layers, 4).tolist() == counted


@given(WEIGHTS.map(torch.flatten), WIDE, st.floats(0.1, 10))
def test_lasso_and_its_gradient_equal_the_literal_computation(weights, bits, coefficient):
    grid = grid_of(bits, FULL_RANGE.scale(weights, bits))
    penalty, gradient = lasso_of(weights, grid, coefficient)
    expected, expected_gradient = literal_lasso(weights, grid, bits, coefficient)
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=0)


def test_the_lasso_is_computed_in_full_precision_under_autocast():
    weights = skewed(3)
    grid = grid_of(6, FULL_RANGE.scale(weights, 6))
    expected = lasso_of(weights, grid)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, lasso_of(weights, grid), expected))


def test_lasso_by_hand():
    grid = grid_of(3, 7.0)
    penalty, gradient = lasso_of(torch.tensor([3.0, -1.0, 0.0, -2.0]), grid, 10.0)
    assert penalty == pytest.approx(10 * (2**0.5 + 2**0.5))
    pull = 10 / 2**0.5
    assert gradient.tolist() == pytest.approx([pull + 2 * pull, -pull, 0, -2 * pull])


@given(st.lists(st.tuples(WEIGHTS.map(torch.flatten), BITS, st.floats(0.1, 10)), min_size=1, max_size=4))
def test_several_layers_at_once_equal_layer_by_layer(layers):
    grids = [grid_of(bits, FULL_RANGE.scale(weights, bits)) for weights, bits, _ in layers]
    flat = torch.cat([weights for weights, _, _ in layers]).requires_grad_()
    sizes = torch.tensor([weights.numel() for weights, _, _ in layers])
    grid = Grid(*(torch.stack(field) for field in zip(*grids, strict=True))).expand(sizes)
    indices = torch.arange(len(layers)).repeat_interleave(sizes)
    coefficients = torch.tensor([coefficient for *_, coefficient in layers])
    penalty = bit_plane_lasso(flat, grid.encode(flat.detach()), grid, indices, coefficients)
    (3 * penalty).backward()
    alone = [lasso_of(weights, g, c) for (weights, _, c), g in zip(layers, grids, strict=True)]
    torch.testing.assert_close(penalty.detach(), sum(value for value, _ in alone))
    torch.testing.assert_close(flat.grad, 3 * torch.cat([gradient for _, gradient in alone]))


@given(WEIGHTS.map(torch.flatten))
def test_a_layer_of_one_bit_has_no_penalty(weights):
    penalty, gradient = lasso_of(weights, grid_of(1, FULL_RANGE.scale(weights, 1)))
    assert penalty == 0
    assert not gradient.any()


@pytest.mark.parametrize("bits", range(2, 9))
def test_steps_along_the_lasso_empty_the_top_plane(bits):
    weights = skewed(0)
    scale = FULL_RANGE.scale(weights, bits)
    grid = grid_of(bits, scale)
    for _ in range(300):
        weights = weights - 0.2 * lasso_of(weights, grid)[1]
    assert top_plane_share(grid.encode(weights) - grid.zero, bits) < 0.01


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_step_on_the_planes_recombined_is_the_shadow_step_times_a_constant(bits):
    """A real-valued plane of weight 2^k moves by 2^k * s/step times the weight's gradient, and moves it by as much."""
    generator = torch.Generator().manual_seed(bits)
    inputs, target = torch.randn(20, 6, generator=generator), torch.randn(20, generator=generator)
    weights, rate = torch.randn(6, generator=generator), 0.1
    grid = grid_of(bits, 2 * weights.abs().max())
    bit_planes = planes(grid.encode(weights), bits).float().requires_grad_()

    def loss(values):
        return (inputs @ values - target).square().mean()

    loss(grid.decode(from_planes(bit_planes))).backward()
    by_planes = grid.decode(from_planes((bit_planes - rate * bit_planes.grad).detach()))

    shadow = grid.decode(from_planes(bit_planes.detach())).requires_grad_()
    loss(shadow).backward()
    constant = grid.step_size**2 * sum(4**i for i in range(bits))
    torch.testing.assert_close(by_planes, (shadow - rate * constant * shadow.grad).detach())


@given(WEIGHTS.map(torch.flatten), WIDE)
def test_a_lasso_step_on_the_planes_recombined_is_that_of_the_shadow(weights, bits):
    """In units of the code, each plane moves by B_i / ||B_i||; towards the zero point, with the sign of q - z."""
    grid = grid_of(bits, FULL_RANGE.scale(weights, bits))
    codes = grid.encode(weights)
    magnitude = (codes - grid.zero).abs().clamp(max=2 ** (bits - 1) - 1)
    bit_planes = planes(magnitude, bits - 1).float()
    norms = bit_planes.square().sum(1, keepdim=True).sqrt().clamp(min=1)
    moved = from_planes(bit_planes - 0.1 * bit_planes / norms)
    expected = (moved - magnitude) * torch.sign(codes - grid.zero) * grid.step_size
    torch.testing.assert_close(-0.1 * lasso_of(weights, grid)[1], expected, rtol=1e-3, atol=1e-6 * float(grid.scale))


def literally_pruned(weights, bits, scale, quantizer, epsilon, min_bits):
    """Section 5 plane by plane: bits left, and the offsets q - z of the codes, saturated."""
    grid = grid_of(bits, scale, quantizer)
    offsets = [float(q - grid.zero) if bits > 1 else 0 for q in grid.encode(weights).flatten()]
    while bits > min_bits:
        highest = 2 ** (bits - 1) - 1
        ones = sum(min(int(abs(offset)), highest) >> (bits - 2) & 1 for offset in offsets)
        if ones / len(offsets) >= epsilon:
            break
        bits -= 1
        coarser = grid_of(bits, scale, quantizer)
        offsets = [min(max(offset, -coarser.zero), coarser.steps - coarser.zero) for offset in offsets]
    return bits, offsets


@st.composite
def layers_to_prune(draw):
    weights = draw(st.one_of(WEIGHTS.map(torch.flatten), st.integers(0, 99).map(skewed)))
    bits = draw(BITS)
    quantizer = draw(st.sampled_from(list(QUANTIZERS.values())))
    scale = quantizer.scale(weights, bits) * draw(st.sampled_from([1, 1, 2, 5]))
    return weights, bits, scale, quantizer, draw(SHARES), draw(st.integers(1, bits))


@given(layers_to_prune())
def test_pruning_equals_the_rule_plane_by_plane_keeps_the_step_and_saturates(layer):
    weights, bits, scale, quantizer, _, min_bits = layer
    left, left_scale = prune_bits(*layer)
    expected, offsets = literally_pruned(*layer)
    assert left == expected
    assert min_bits <= left <= bits
    if left > 1:
        grid, given = grid_of(left, left_scale, quantizer), grid_of(bits, scale, quantizer)
        torch.testing.assert_close(grid.step_size, given.step_size)
        # A weight half-way between two levels may go either way: the step is the same but for rounding.
        fraction = (weights / given.step_size + given.zero).remainder(1)
        settled = (fraction - 0.5).abs() > 1e-4
        assert torch.equal((grid.encode(weights) - grid.zero)[settled], torch.tensor(offsets).float()[settled])
    elif bits > 1:
        assert left_scale == 2 * weights.abs().mean()


@given(layers_to_prune())
def test_what_is_not_pruned_keeps_its_scale_exactly(layer):
    """By a scale that is a rounding error smaller, the largest weight, half-way between two codes, gets the other."""
    left, left_scale = prune_bits(*layer)
    if left == layer[1]:
        assert left_scale == layer[2]


@given(st.integers(0, 99), WIDE, st.integers(1, 8))
def test_a_dense_layer_is_never_pruned(seed, bits, min_bits):
    weights = torch.randn(500, generator=torch.Generator().manual_seed(seed))
    assert prune_bits(weights, bits, FULL_RANGE.scale(weights, bits), FULL_RANGE, 0.01, min(bits, min_bits))[0] == bits


@given(layers_to_prune())
def test_a_share_below_zero_is_impossible_so_nothing_is_pruned_and_above_one_everything(layer):
    weights, bits, scale, quantizer, _, min_bits = layer
    assert prune_bits(weights, bits, scale, quantizer, 0.0, min_bits)[0] == bits
    assert prune_bits(weights, bits, scale, quantizer, 1.1, min_bits)[0] == min_bits


def test_large_weights_saturate_and_small_ones_stay():
    weights = torch.tensor([7.0, -7.0] + [1.0, -1.0, 0.0] * 50)
    left, scale = prune_bits(weights, 4, torch.tensor(15.0), FULL_RANGE, 0.025, 1)
    grid = grid_of(left, scale)
    assert left == 2
    assert grid.decode(grid.encode(weights)).tolist() == pytest.approx([1.0, -2.0] + [1.0, -1.0, 0.0] * 50)


def test_a_layer_of_zeros_loses_all_that_it_can():
    left, scale = prune_bits(torch.zeros(9), 8, torch.tensor(0.0), FULL_RANGE, 0.02, 3)
    assert (left, scale) == (3, 0)
