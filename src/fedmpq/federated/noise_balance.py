"""Noise-balanced bits: the bit-widths of a budget that leave the least error in the layers' weights.

Batch norm undoes the scale of a layer, so what counts is the relative error E_l(b) of its weights. Sought is the least
sum_l E_l(b_l) with sum_l P_l b_l <= B P: from the fewest bits, again and again the step b -> b' that takes most error
away for its cost, (E_l(b) - E_l(b')) / ((b' - b) P_l), among those that still fit. A step that helps little by itself
(1 to 2 bits at full range) is so jumped over.
"""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

Errors = tuple[tuple[float, ...], ...]
"""E_l(b), L x 8, for b = 1 .. 8."""
NEGLIGIBLE = 1e-9
"""A step that takes less error away is not worth a bit."""


class Step(NamedTuple):
    """More bits for one layer."""

    gain: float
    """Error that it takes away, for each bit that it costs."""
    layer: int
    bits: int
    """Bits of the layer after it."""
    cost: int
    """Bits that it costs, over all weights of the layer."""


Options = dict[int, list[Step]]
"""The steps that a layer can take, by the bits that it has."""


def noise_balanced(sizes: list[int], errors: Errors, budget: float, min_bits: int = 1) -> tuple[int, ...]:
    """Bit-widths of the layers of one client.

    Args:
        sizes: number of weights of each layer, P_l (L).
        errors: E_l(b), L x 8.
        budget: average bits per weight, min_bits .. 8.
        min_bits: bits that each layer gets at least.

    Returns:
        L bit-widths, min_bits .. 8, whose average is at most `budget`; of equal gains the earlier layer comes first.
    """
    options, steps, costs = _path(tuple(sizes), errors, min_bits)
    spare = int(Fraction(budget) * sum(sizes)) - min_bits * sum(sizes)
    taken = bisect_right(costs, spare)
    bits = [min_bits] * len(sizes)
    for step in steps[:taken]:
        bits[step.layer] = step.bits
    spare -= costs[taken - 1] if taken else 0
    while fitting := [
        step for layer, size in enumerate(sizes) if size <= spare
        for step in options[layer][bits[layer]] if step.cost <= spare
    ]:  # fmt: skip
        best = max(fitting, key=lambda step: step.gain)
        bits[best.layer] = best.bits
        spare -= best.cost
    return tuple(bits)


@lru_cache(maxsize=8)
def _path(sizes: tuple[int, ...], errors: Errors, min_bits: int) -> tuple[list[Options], list[Step], list[int]]:
    """The options of each layer; the steps as they are taken while all fit, and what they cost together up to each."""
    options = [
        {bits: list(_steps(layer, size, own, bits)) for bits in range(min_bits, len(own) + 1)}
        for layer, (size, own) in enumerate(zip(sizes, errors, strict=True))
    ]
    steps = [step for own in options for step in _ascent(own, min_bits)]
    steps.sort(key=lambda step: -step.gain)
    return options, steps, list(accumulate(step.cost for step in steps))


def _ascent(options: Options, bits: int) -> Iterator[Step]:
    while steps := options[bits]:
        best = max(steps, key=lambda step: step.gain)
        yield best
        bits = best.bits


def _steps(layer: int, size: int, errors: tuple[float, ...], bits: int) -> Iterator[Step]:
    """All steps of one layer from `bits` on that take error away."""
    for more in range(bits + 1, len(errors) + 1):
        gain = errors[bits - 1] - errors[more - 1]
        if gain > NEGLIGIBLE:
            yield Step(gain / ((more - bits) * size), layer, more, (more - bits) * size)
