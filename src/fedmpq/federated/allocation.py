"""The server's pruning-growing rule: which bit-widths a client of a given budget gets."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import floor

from torch import Tensor

from fedmpq.config import MAX_BITS
from fedmpq.quantization.codes import Quantizer


@dataclass(frozen=True)
class Consensus:
    """What the clients of a round agree on, in whole bits a layer (L)."""

    bits: tuple[int, ...]
    """Average of the bit-widths that they sent back."""
    deltas: tuple[int, ...]
    """Average of the bits that they pruned."""


@dataclass(frozen=True)
class View:
    """What the server knows when it allocates bits for a round."""

    sizes: list[int]
    """Number of weights of each layer, P_l (L)."""
    weights: list[Tensor]
    """Those of the global model, a vector a layer (L)."""
    quantizer: Quantizer
    """Of the weights."""
    consensus: Consensus | None
    """Of the clients of the round before; None in the first round."""

    @cached_property
    def errors(self) -> tuple[tuple[float, ...], ...]:
        """E_l(b) of the global model, L x 8, for b = 1 .. 8 (see `Quantizer.relative_error`)."""
        widths = range(1, MAX_BITS + 1)
        return tuple(tuple(self.quantizer.relative_error(layer, b) for b in widths) for layer in self.weights)


def agree(bits: list[tuple[int, ...]], deltas: list[tuple[int, ...]], weights: list[float]) -> Consensus:
    """Average bit-widths and deltas of clients, rounded to whole bits, halves up.

    Args:
        bits: bit-widths of each client, clients x L.
        deltas: bits given minus bits left of each client, clients x L.
        weights: samples x budget of each client, not all 0.
    """
    # Exact numbers, so that halves are halves.
    shares = [Fraction(weight) for weight in weights]
    return Consensus(
        *(tuple(_rounded_mean(column, shares) for column in zip(*rows, strict=True)) for rows in (bits, deltas))
    )


def _rounded_mean(values: tuple[int, ...], shares: list[Fraction]) -> int:
    return floor(sum(v * share for v, share in zip(values, shares, strict=True)) / sum(shares) + Fraction(1, 2))


def prune_and_grow(sizes: list[int], budget: float, start: Consensus, min_bits: int, grow: bool = True) -> list[int]:
    """Bit-widths of the layers of one client.

    The priority of layer l is (P_l / P) * (delta_l + 1). While the average bit-width exceeds the
    budget, the layer of highest priority gives bits until it is at `min_bits`, then the next; then,
    while it is below, the layer of lowest priority takes bits until it is at 8, then the next. Of
    equal priorities the earlier layer comes first. No step that would exceed the budget is taken.

    Args:
        sizes: number of weights of each layer, P_l (L).
        budget: average bits per weight, min_bits .. 8.
        start: bit-widths to start from, and deltas.
        min_bits: bits that each layer keeps.
        grow: give bits while the average is below the budget.

    Returns:
        L bit-widths, min_bits .. 8, whose average is at most `budget`.
    """
    bits = [min(max(b, min_bits), MAX_BITS) for b in start.bits]
    priority = [size * (delta + 1) for size, delta in zip(sizes, start.deltas, strict=True)]
    # Whole bits in all: an exact number, so that no rounding decides about a step.
    spare = int(Fraction(budget) * sum(sizes)) - sum(size * b for size, b in zip(sizes, bits, strict=True))
    for layer in sorted(range(len(sizes)), key=lambda layer: -priority[layer]):
        taken = min(bits[layer] - min_bits, max(0, -(spare // sizes[layer])))
        bits[layer] -= taken
        spare += taken * sizes[layer]
    for layer in sorted(range(len(sizes)), key=lambda layer: priority[layer]) if grow else []:
        given = min(MAX_BITS - bits[layer], max(0, spare // sizes[layer]))
        bits[layer] += given
        spare -= given * sizes[layer]
    return bits
