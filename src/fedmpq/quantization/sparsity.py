"""Group Lasso on the bit planes of layers, and the pruning of sparse bits.

The planes here are those of the magnitude m = |q - z|, rounded down, since in the offset form no plane of a layer
near zero is sparse: b - 1 planes of weights 2^0 .. 2^(b-2); m saturates at 2^(b-1) - 1. A layer of
1 bit is a sign and has none. Every weight of a layer with the same m is pushed alike, so all that is
needed of a layer is the histogram of its m.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fedmpq.quantization.codes import Grid, Quantizer

PLANES = 7
LEVELS = 2**PLANES


def magnitudes(codes: Tensor, grid: Grid) -> Tensor:
    """m = |q - z| of each code, rounded down, int64, 0 .. 2^(b-1) - 1; 0 for codes of 1 bit."""
    highest = (grid.steps - 1) / 2
    return torch.minimum((codes - grid.zero).abs(), highest).long()


def ones_per_plane(magnitude: Tensor, layers: Tensor, count: int) -> Tensor:
    """How many ones each magnitude plane holds, float (count, 7), plane i of weight 2^i.

    Args:
        magnitude: (P,), 0 .. 127.
        layers: (P,), the layer of each weight, 0 .. count - 1.
        count: number of layers.
    """
    histogram = torch.bincount(layers * LEVELS + magnitude, minlength=count * LEVELS)
    return (histogram.reshape(count, 1, LEVELS) * _planes_of_levels(magnitude.device)).sum(2).float()


def _planes_of_levels(device: torch.device) -> Tensor:
    """Bit i of each level 0 .. 127, int64 (7, 128).

    What is summed over it is multiplied first: under autocast a product of matrices would be rounded to 8 bits.
    """
    return (torch.arange(LEVELS, device=device) >> torch.arange(PLANES, device=device).unsqueeze(1)) & 1


class _BitPlaneLasso(Function):
    """The penalty forward; backward its subgradient by the planes, recombined to weights."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, codes: Tensor, grid: Grid, layers: Tensor, coefficients: Tensor) -> Tensor:
        magnitude = magnitudes(codes, grid)
        norms = ones_per_plane(magnitude, layers, len(coefficients)).sqrt()
        powers = 2.0 ** torch.arange(PLANES, device=weights.device)
        pull_of_plane = torch.where(norms > 0, powers / norms, 0.0) * coefficients.unsqueeze(1)
        pull_of_level = (pull_of_plane.unsqueeze(2) * _planes_of_levels(weights.device)).sum(1)
        pull = pull_of_level.flatten().index_select(0, layers * LEVELS + magnitude)
        ctx.save_for_backward(pull * torch.sign(codes - grid.zero) * grid.step_size)
        return (norms.sum(1) * coefficients).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (subgradient,) = ctx.saved_tensors
        return gradient * subgradient, None, None, None, None


def bit_plane_lasso(weights: Tensor, codes: Tensor, grid: Grid, layers: Tensor, coefficients: Tensor) -> Tensor:
    """sum_l coefficient_l * sum_i || B_i^(l) ||_2, the group Lasso of the local objective.

    Args:
        weights: (P,), the weights of all layers one after another; they receive the gradient
            coefficient_l * sign(q - z) * sum_i 2^i B_i / ||B_i||_2, in units of the layer's step.
        codes: (P,), their codes on `grid`.
        grid: one entry a weight.
        layers: (P,), the layer of each weight.
        coefficients: (L,), P_l b_l / P in the paper.
    """
    return _BitPlaneLasso.apply(weights, codes, grid, layers, coefficients)


def top_plane_share(offsets: Tensor, bits: int) -> float:
    """Share of ones, 0 .. 1, in the most significant magnitude plane of one layer.

    Args:
        offsets: q - z of its codes, any shape.
        bits: its bit-width, 2 .. 8.
    """
    return (offsets.abs() >= 2 ** (bits - 2)).float().mean().item()


def prune_bits(
    weights: Tensor, bits: int, scale: Tensor, quantizer: Quantizer, epsilon: float, min_bits: int
) -> tuple[int, Tensor]:
    """Take bits from one layer while its most significant magnitude plane is sparse.

    Args:
        weights: the layer, any shape.
        bits: its bit-width, 1 .. 8.
        scale: its scale, 0-dimensional.
        quantizer: of that scale.
        epsilon: a plane whose share of ones is below it is pruned.
        min_bits: the bit-width that is kept at least, 1 .. 8.

    Returns:
        The bit-width left and its scale. The step size stays, so that the few larger weights
        saturate; at 1 bit, where codes are signs, the scale is that of the signs.
    """
    grid = quantizer.grid(torch.tensor(bits, device=weights.device), scale)
    offsets = grid.encode(weights) - grid.zero
    left = bits
    while left > min_bits and top_plane_share(offsets, left) < epsilon:
        left -= 1
    if left == bits:
        return bits, scale
    if left == 1:
        return left, quantizer.scale(weights, left)
    return left, grid.step_size * (2**left - 1)
