"""Coders: no bias, errors within bounds, codes that fit into their bits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.quantization.codes import FULL_RANGE, full_range
from fedmpq.quantization.rounding import DitheredLattice, Nearest, Stochastic, pair_range
from fedmpq.seeding import torch_generator

SIZES = [6, 1, 9]
BITS = (1, 3, 8)
RANGES = {Stochastic: full_range, DitheredLattice: lambda weights, bits: pair_range(weights)}


def values(seed=0, sizes=SIZES):
    return torch.randn(sum(sizes), generator=torch_generator("values", seed))


def scales(kind, vector, bits=BITS, sizes=SIZES):
    return torch.stack([RANGES[kind](layer, b) for layer, b in zip(vector.split(sizes), bits, strict=True)])


def travelled(kind, vector, bits, scale, key):
    codes = kind(torch_generator(key)).encode(vector, SIZES, bits, scale)
    limits = torch.tensor(bits).repeat_interleave(torch.tensor(SIZES))
    assert ((codes >= 0) & (codes < 2**limits) & (codes == codes.round())).all()
    return kind(torch_generator(key)).decode(codes.to(torch.uint8), SIZES, bits, scale)


@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("bits", [(1, 1, 1), (2, 2, 2), BITS])
def test_the_mean_over_many_draws_is_the_value(kind, bits):
    vector, draws = values(), 1000
    scale = scales(kind, vector, bits)
    found = torch.stack([travelled(kind, vector, bits, scale, key) for key in range(draws)])
    error = found.std(0) / math.sqrt(draws)
    assert ((found.mean(0) - vector).abs() <= 5 * error + 1e-6).all()


@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 8)] * 3))
def test_the_error_is_below_the_distance_of_the_levels(seed, bits):
    vector = values(seed)
    for kind in RANGES:
        scale = scales(kind, vector, bits)
        found = travelled(kind, vector, bits, scale, seed)
        apart = [
            s / (2**b - 1) if kind is Stochastic else s / (2**b - 2 / math.sqrt(3))
            for b, s in zip(bits, scale, strict=True)
        ]
        furthest = 1 if kind is Stochastic else 1 / math.sqrt(3)
        for layer, other, distance in zip(vector.split(SIZES), found.split(SIZES), apart, strict=True):
            assert (layer - other).abs().max() <= furthest * distance + 1e-5


@pytest.mark.parametrize("kind", RANGES)
def test_another_key_draws_otherwise_and_the_same_key_alike(kind):
    vector = values()
    scale = scales(kind, vector)
    one, same, other = (travelled(kind, vector, BITS, scale, key) for key in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", RANGES)
def test_a_layer_of_nothing_but_0_comes_back_as_0(kind):
    vector = torch.zeros(sum(SIZES))
    assert torch.equal(travelled(kind, vector, BITS, scales(kind, vector), 0), vector)


def test_a_lattice_has_less_noise_than_single_values():
    vector, bits, sizes = values(sizes=[4000]), (4,), [4000]
    noise = {}
    for kind in RANGES:
        scale = scales(kind, vector, bits, sizes)
        codes = kind(torch_generator(0)).encode(vector, sizes, bits, scale)
        noise[kind] = (kind(torch_generator(0)).decode(codes, sizes, bits, scale) - vector).square().mean()
    assert noise[DitheredLattice] < 0.6 * noise[Stochastic]


def test_the_nearest_level_is_the_grids():
    vector = values()
    scale = torch.stack([full_range(layer, b) for layer, b in zip(vector.split(SIZES), BITS, strict=True)])
    coder = Nearest(FULL_RANGE)
    found = coder.decode(coder.encode(vector, SIZES, BITS, scale), SIZES, BITS, scale)
    for layer, other, b, s in zip(vector.split(SIZES), found.split(SIZES), BITS, scale, strict=True):
        if b > 1:
            assert (layer - other).abs().max() <= s / (2**b - 1) * (1 + 1e-5)
