from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.federated.allocation import Consensus, agree, prune_and_grow


@st.composite
def clients(draw):
    """Sizes, budget, start and min_bits of a client."""
    sizes = draw(st.lists(st.integers(1, 40) | st.integers(1, 10**6), min_size=1, max_size=12))
    layers = len(sizes)
    bits = draw(st.lists(st.integers(1, 8), min_size=layers, max_size=layers))
    deltas = draw(st.lists(st.integers(0, 7), min_size=layers, max_size=layers))
    budget = draw(st.integers(1, 8) | st.floats(1, 8))
    return sizes, budget, Consensus(tuple(bits), tuple(deltas)), draw(st.integers(1, int(budget)))


def spent(sizes, bits):
    return sum(size * b for size, b in zip(sizes, bits, strict=True))


def literal(sizes, budget, start, min_bits, grow):
    """Section 6.3 one bit at a time, in exact fractions."""
    total, bits = sum(sizes), [max(b, min_bits) for b in start.bits]
    priorities = [Fraction(size, total) * (delta + 1) for size, delta in zip(sizes, start.deltas, strict=True)]

    def average(widths):
        return Fraction(spent(sizes, widths), total)

    def with_one_bit(layer, step):
        return [b + step if index == layer else b for index, b in enumerate(bits)]

    while average(bits) > Fraction(budget):
        able = [layer for layer in range(len(sizes)) if bits[layer] > min_bits]
        highest = max(priorities[layer] for layer in able)
        bits = with_one_bit(next(layer for layer in able if priorities[layer] == highest), -1)
    while grow:
        able = [layer for layer in range(len(sizes)) if bits[layer] < 8]
        able = [layer for layer in able if average(with_one_bit(layer, 1)) <= Fraction(budget)]
        if not able:
            break
        lowest = min(priorities[layer] for layer in able)
        bits = with_one_bit(next(layer for layer in able if priorities[layer] == lowest), 1)
    return bits


@given(clients(), st.booleans())
def test_never_above_the_budget_and_within_the_bounds(client, grow):
    sizes, budget, _, min_bits = client
    bits = prune_and_grow(*client, grow)
    assert spent(sizes, bits) <= Fraction(budget) * sum(sizes)
    assert all(min_bits <= b <= 8 for b in bits)


@given(clients())
def test_all_that_can_be_spent_is_spent(client):
    sizes, budget, _, _ = client
    bits = prune_and_grow(*client)
    left = Fraction(budget) * sum(sizes) - spent(sizes, bits)
    assert all(size > left for size, b in zip(sizes, bits, strict=True) if b < 8)


@given(clients())
def test_without_growing_no_layer_gets_a_bit(client):
    _, _, start, min_bits = client
    bits = prune_and_grow(*client, grow=False)
    assert all(b <= max(before, min_bits) for b, before in zip(bits, start.bits, strict=True))


@given(clients(), st.booleans())
def test_equals_the_rule_step_by_step(client, grow):
    assert prune_and_grow(*client, grow) == literal(*client, grow)


@given(clients())
def test_what_is_on_the_budget_stays(client):
    sizes, _, start, _ = client
    budget = Fraction(spent(sizes, start.bits), sum(sizes))
    assert prune_and_grow(sizes, budget, start, 1) == list(start.bits)


def test_bits_are_taken_from_the_layer_of_highest_priority_until_it_is_at_the_minimum_then_from_the_next():
    start = Consensus((8, 8, 8), (0, 2, 0))
    assert prune_and_grow([40, 30, 30], 6, start, 2) == [7, 2, 8]
    assert prune_and_grow([40, 30, 30], 5, start, 2) == [5, 2, 8]


def test_bits_are_given_to_the_layer_of_lowest_priority_until_it_is_at_8_then_to_the_next():
    start = Consensus((2, 2, 2), (0, 1, 0))
    assert prune_and_grow([40, 25, 35], 4, start, 1) == [2, 3, 7]
    assert prune_and_grow([40, 25, 35], 5, start, 1) == [4, 2, 8]


def test_of_equal_priorities_the_earlier_layer_comes_first_in_both_directions():
    assert prune_and_grow([10, 10], 6, Consensus((8, 8), (0, 0)), 1) == [4, 8]
    assert prune_and_grow([10, 20], 6, Consensus((8, 8), (1, 0)), 1) == [2, 8]
    assert prune_and_grow([10, 10], 4, Consensus((2, 2), (0, 0)), 1) == [6, 2]
    assert prune_and_grow([10, 20], 4, Consensus((2, 2), (1, 0)), 1) == [8, 2]


def test_a_step_that_would_exceed_the_budget_is_skipped_and_a_smaller_layer_takes_it():
    assert prune_and_grow([10, 3], 4.5, Consensus((4, 4), (0, 5)), 1) == [4, 6]


def test_no_rounding_decides_about_a_step():
    sizes = [432, 2304, 9216, 36864, 640]
    budget = Fraction(3 * sum(sizes) + 432, sum(sizes))
    assert prune_and_grow(sizes, float(budget), Consensus((3,) * 5, (0,) * 5), 1)[0] in (3, 4)
    assert prune_and_grow(sizes, budget, Consensus((3,) * 5, (0,) * 5), 1) == [4, 3, 3, 3, 3]
    assert prune_and_grow(sizes, budget - Fraction(1, 10**30), Consensus((3,) * 5, (0,) * 5), 1) == [3, 3, 3, 3, 3]


def test_agreement_is_weighted_and_rounded_to_whole_bits_halves_up():
    bits, deltas = [(2, 8, 4), (3, 6, 5)], [(1, 0, 0), (0, 1, 3)]
    assert agree(bits, deltas, [1.0, 1.0]) == Consensus((3, 7, 5), (1, 1, 2))
    assert agree(bits, deltas, [3.0, 1.0]) == Consensus((2, 8, 4), (1, 0, 1))
    assert agree(bits, deltas, [0.0, 5.0]) == Consensus((3, 6, 5), (0, 1, 3))


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 7), st.integers(1, 5000)), min_size=1, max_size=30),
    st.sampled_from([1, 2, 2.5, 4, 0.1]),
)
def test_agreement_equals_exact_fractions(rows, budget):
    weights = [samples * budget for *_, samples in rows]
    total = sum(map(Fraction, weights))
    averages = [
        sum(Fraction(w) * row[column] for w, row in zip(weights, rows, strict=True)) / total for column in (0, 1)
    ]
    expected = [int(average + Fraction(1, 2)) for average in averages]
    found = agree([(bits,) for bits, *_ in rows], [(delta,) for _, delta, _ in rows], weights)
    assert [found.bits[0], found.deltas[0]] == expected


@pytest.mark.parametrize("weight", [1.1, 0.1, 33 * 2.1, 7 * 1.7, 1e9])
def test_halves_go_up_whatever_the_weights(weight):
    for count in range(1, 20):
        bits = [(2,)] * count + [(3,)] * count
        assert agree(bits, bits, [weight] * 2 * count) == Consensus((3,), (3,))
