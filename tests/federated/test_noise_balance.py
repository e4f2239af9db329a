"""Noise-balanced bits: within the budget, monotone, close to the best there is."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpq.federated.allocation import View
from fedmpq.federated.noise_balance import noise_balanced
from fedmpq.models import build_model
from fedmpq.quantization.codes import NORMAL, QUANTIZERS

TABLE = st.lists(st.floats(0, 1), min_size=8, max_size=8)


@st.composite
def layers(draw, most=8):
    count = draw(st.integers(1, most))
    sizes = draw(st.lists(st.integers(1, 500), min_size=count, max_size=count))
    errors = draw(st.lists(TABLE, min_size=count, max_size=count))
    return sizes, tuple(tuple(sorted(row, reverse=True)) for row in errors)


def average(sizes, bits):
    return sum(size * b for size, b in zip(sizes, bits, strict=True)) / sum(sizes)


def error(errors, bits):
    return sum(row[b - 1] for row, b in zip(errors, bits, strict=True))


@given(layers(), st.floats(1, 8))
def test_a_budget_is_never_exceeded(found, budget):
    sizes, errors = found
    bits = noise_balanced(sizes, errors, budget)
    assert all(1 <= b <= 8 for b in bits)
    assert average(sizes, bits) <= budget


@given(layers(), st.floats(1, 8))
def test_no_step_that_fits_and_helps_is_left(found, budget):
    sizes, errors = found
    bits = noise_balanced(sizes, errors, budget)
    for layer, b in enumerate(bits):
        for more in range(b + 1, 9):
            changed = [*bits[:layer], more, *bits[layer + 1 :]]
            fits = average(sizes, changed) <= budget
            assert not fits or errors[layer][b - 1] - errors[layer][more - 1] <= 1e-9


@given(layers(most=4), st.floats(1, 8), st.floats(0, 4))
def test_more_budget_leaves_less_error_but_for_one_step(found, budget, more):
    """The greedy rule loses at most the gain of one step that did not fit, the largest there is."""
    sizes, errors = found
    small, large = (error(errors, noise_balanced(sizes, errors, min(8, b))) for b in (budget, budget + more))
    assert large <= small + max(row[0] - row[-1] for row in errors) + 1e-6


@settings(max_examples=30)
@given(layers(most=3), st.floats(1, 8))
def test_close_to_the_best_of_all_assignments(found, budget):
    """The gap to exhaustive search is at most the error that one step takes away: the first that did not fit."""
    sizes, errors = found
    best = min(
        error(errors, bits)
        for bits in itertools.product(range(1, 9), repeat=len(sizes))
        if average(sizes, bits) <= budget
    )
    gap = error(errors, noise_balanced(sizes, errors, budget)) - best
    assert -1e-6 <= gap <= max(row[0] - row[-1] for row in errors) + 1e-6


def test_monotone_in_the_budget_on_a_network():
    view = network_view("resnet20", NORMAL)
    left = [error(view.errors, noise_balanced(view.sizes, view.errors, b / 4)) for b in range(4, 33)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.01 < left[0]


def test_a_useless_step_is_jumped_over():
    errors = ((0.4, 0.5, 0.05, 0.04, 0.03, 0.02, 0.01, 0.0),)
    assert noise_balanced([10], errors, 2) == (1,)
    assert noise_balanced([10], errors, 3) == (3,)


def test_a_layer_of_equal_weights_gets_no_bit_more_than_its_minimum():
    weights = [torch.full((100,), 0.3), torch.randn(100, generator=torch.Generator().manual_seed(0)), torch.zeros(50)]
    view = View([100, 100, 50], weights, NORMAL, None)
    assert noise_balanced(view.sizes, view.errors, 6) == (1, 8, 1)


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
def test_large_layers_get_fewer_bits_than_small_ones(quantizer):
    view = network_view("resnet8", quantizer)
    bits = noise_balanced(view.sizes, view.errors, 4)
    assert bits[view.sizes.index(max(view.sizes))] == min(bits)
    assert bits[view.sizes.index(min(view.sizes))] == max(bits)


def network_view(network, quantizer):
    weights = [p.detach().flatten() for p in build_model(network, 10, 32).parameters() if p.dim() > 1]
    return View([len(layer) for layer in weights], weights, quantizer, None)
