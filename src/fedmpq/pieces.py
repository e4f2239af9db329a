"""The pieces of the method, each by itself, on arrays and tensors of one's own: checked, with an example each."""

from collections.abc import Sequence
from math import inf

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fedmpq.config import MAX_BITS
from fedmpq.data.dirichlet import draw_partition
from fedmpq.data.partition import Partition
from fedmpq.errors import UserError
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.quantization import codes as method
from fedmpq.quantization import packing


def partition(labels: ArrayLike, clients: int, alpha: float, seed: int = 0) -> Partition:
    """Divide samples of `labels` (N,), 0, 1, .., among clients: the smaller `alpha` > 0, the fewer labels each holds.

    >>> labels = np.arange(300) % 3
    >>> held = fedmpq.partition(labels, clients=2, alpha=0.5, seed=0)
    >>> held.counts(labels, classes=3)  # clients x classes
    array([[84, 54, 73],
           [16, 46, 27]])
    >>> held.client(1)[:5]  # indices of its samples
    array([ 0,  1,  4, 10, 14])
    """
    labels = np.asarray(labels)
    whole = labels.ndim == 1 and labels.size > 0 and labels.dtype.kind in "iu" and labels.min() >= 0
    check("labels", labels.ravel()[:3].tolist(), whole, "whole numbers from 0, one a sample")
    check("clients", clients, clients >= 1, "1 or more")
    check("alpha", alpha, 0 < alpha < inf, "a number above 0")
    return draw_partition(labels, clients, alpha, seed)


def quantize(weights: Tensor, bits: int, quantizer: str = "full-range") -> tuple[Tensor, method.Grid]:
    """Codes of a layer's weights (any shape), uint8 and below 2^bits, and the grid on which they stand.

    >>> codes, grid = fedmpq.quantize(torch.tensor([-1.0, -0.2, 0.3, 1.0]), bits=4)
    >>> codes
    tensor([ 1,  7, 10, 15], dtype=torch.uint8)
    >>> grid.decode(codes)
    tensor([-0.9333, -0.1333,  0.2667,  0.9333])

    `quantizer` is "full-range", the paper's, or "normal": symmetric levels of least error.
    """
    _check_bits(bits)
    check("quantizer", quantizer, quantizer in method.QUANTIZERS, ", ".join(method.QUANTIZERS))
    check("weights", tuple(weights.shape), weights.numel() and weights.isfinite().all(), "some, all finite")
    weights, chosen = weights.detach(), method.QUANTIZERS[quantizer]
    grid = chosen.grid(torch.tensor(bits, device=weights.device), chosen.scale(weights, bits))
    return grid.encode(weights).to(torch.uint8), grid


def planes(codes: Tensor, bits: int) -> Tensor:
    """The bit planes of `codes`, (bits, *codes.shape) of 0 and 1, the most significant first.

    >>> fedmpq.planes(torch.tensor([5, 2]), bits=3)
    tensor([[1, 0],
            [0, 1],
            [1, 0]])
    """
    return method.planes(_checked(codes, bits), bits)


def pack(codes: Tensor, bits: int) -> bytes:
    """`codes` of any shape as bytes: `bits` of these for each 8 codes.

    >>> fedmpq.pack(torch.tensor([5, 2, 7, 1, 0, 3, 6, 4]), bits=3).hex()
    'b4f285'
    """
    return packing.pack(_checked(codes, bits).numpy(), bits)


def unpack(packed: bytes, count: int, bits: int) -> Tensor:
    """The `count` codes (count,), uint8, of which `pack` has made `packed`.

    >>> fedmpq.unpack(fedmpq.pack(torch.tensor([5, 2, 7]), bits=3), count=3, bits=3)
    tensor([5, 2, 7], dtype=torch.uint8)
    """
    _check_bits(bits)
    try:
        return torch.from_numpy(packing.unpack(packed, count, bits).copy())
    except ValueError as error:
        raise UserError(f"packed: {error}") from error


def allocate(
    sizes: Sequence[int],
    budget: float,
    bits: Sequence[int] | None = None,
    pruned: Sequence[int] | None = None,
    min_bits: int = 1,
) -> list[int]:
    """Bits, `min_bits` .. 8, of layers (L) for a device that can hold `budget` a weight, by the pruning-growing rule.

    >>> fedmpq.allocate([432, 2304, 640], budget=3.5)
    [6, 3, 3]

    Args:
        sizes: weights of each layer (L).
        budget: bits, on average over all weights.
        bits: to start from (L); None: `budget`, rounded down, for each layer.
        pruned: bits that the layers have just lost (L), by which those that lost fewer gain first; None: none.
        min_bits: the fewest of a layer.
    """
    check("budget", budget, 1 <= min_bits <= budget <= MAX_BITS, f"min_bits, which is at least 1, to {MAX_BITS}")
    bits, pruned = bits or [int(budget)] * len(sizes), pruned or [0] * len(sizes)
    check("sizes", sizes, len(sizes) == len(bits) == len(pruned) and min(sizes, default=0) > 0, "one above 0 a layer")
    return prune_and_grow(list(sizes), budget, Consensus(tuple(bits), tuple(pruned)), min_bits)


def check(key: str, value: object, fits: object, allowed: str) -> None:
    """Raise UserError unless the `value` of an argument `fits`."""
    if not fits:
        raise UserError(f"{key}: {value!r} is not allowed; allowed: {allowed}")


def _checked(codes: Tensor, bits: int) -> Tensor:
    """`codes` as uint8 on the CPU."""
    _check_bits(bits)
    ends = [end.item() for end in codes.aminmax()] if codes.numel() else [0, 0]
    check("codes", ends, ends[0] >= 0 and ends[1] < 2**bits, f"0 to {2**bits - 1}")
    return codes.to("cpu", torch.uint8)


def _check_bits(bits: int) -> None:
    check("bits", bits, bits in range(1, MAX_BITS + 1), f"1 to {MAX_BITS}")
