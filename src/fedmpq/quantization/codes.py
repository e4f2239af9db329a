"""Codes of weights and their bit planes (supplement, section 3).

With step = 2^b - 1, zero point z = 2^(b-1) and scale s:

    code    q = round(w * step / s + z), clamped to [0, step]
    planes  B_i = floor(q / 2^(b-i-1)) mod 2,   i = 0 (most significant) .. b-1
    value   w = (q - z) * s / step

At b = 1 that grid has no level but 0 inside (-s/2, s/2), so there z = 1/2, whose two levels are
-s/2 and s/2, and s is twice the mean magnitude. The quantizer `normal` has z = step / 2 at every b:
as many levels above 0 as below.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """The values that b bits can stand for: `(q - zero) * scale / steps`, q = 0 .. steps.

    The fields are tensors of one shape: () for one layer, (L,) for one entry a layer, or (P,) for
    one entry a weight; whatever is encoded has to broadcast with them.
    """

    steps: Tensor
    zero: Tensor
    scale: Tensor

    def expand(self, sizes: Tensor) -> "Grid":
        """From one entry a layer to one a weight; `sizes` (L,) counts the weights of each layer."""
        return Grid(*(field.repeat_interleave(sizes) for field in self))

    @property
    def step_size(self) -> Tensor:
        """Distance between neighbouring levels, in units of the weights."""
        return self.scale / self.steps

    def encode(self, weights: Tensor) -> Tensor:
        """Codes q of `weights`, whole numbers 0 .. steps in the weights' dtype.

        Dividing by the scale first and rounding ties up makes a weight of -s/2 the same code in
        whatever precision, and keeps the code of every value that is already on the grid. A layer
        whose scale is 0 encodes to its zero point.
        """
        relative = torch.where(self.scale > 0, weights / self.scale, 0.0)
        return torch.floor(relative * self.steps + self.zero + 0.5).clamp_(torch.zeros_like(self.steps), self.steps)

    def decode(self, codes: Tensor) -> Tensor:
        """Values of `codes`, in units of the weights."""
        return (codes - self.zero) * self.step_size


class Quantizer(NamedTuple):
    """How the levels of a layer are found from its weights."""

    range_of: Callable[[Tensor, int], Tensor]
    """Scale of weights at 2 .. 8 bits."""
    symmetric: bool
    """Whether there are as many levels above 0 as below."""

    def scale(self, weights: Tensor, bits: int) -> Tensor:
        """Scale s of one layer at `bits` (1 .. 8), a 0-dimensional tensor >= 0 in units of the weights.

        At 1 bit it is 2 mean |w| for every quantizer: the best binary approximation in the mean square.
        """
        return 2 * weights.abs().mean() if bits == 1 else self.range_of(weights, bits)

    def scales(self, layers: Iterable[Tensor], bits: Iterable[int]) -> Tensor:
        """Scales (L,) of `layers` at their `bits`."""
        return torch.stack([self.scale(layer, b) for layer, b in zip(layers, bits, strict=True)])

    def grid(self, bits: Tensor, scale: Tensor) -> Grid:
        """The grid of `bits` (1 .. 8) with the range `scale` (>= 0); fields have their common shape."""
        bits = bits.to(scale.dtype)
        steps = 2**bits - 1
        zero = steps / 2 if self.symmetric else torch.where(bits == 1, 0.5, 2 ** (bits - 1))
        return Grid(steps, zero, scale)

    def relative_error(self, weights: Tensor, bits: int) -> float:
        """E(b) = ||W - Q_b(W)||^2 / ||W||^2 of one layer at `bits`; 0 where all weights are 0."""
        grid = self.grid(torch.tensor(bits), self.scale(weights, bits))
        error = (weights - grid.decode(grid.encode(weights))).square().sum()
        return float(error / weights.square().sum().clamp(min=torch.finfo(weights.dtype).tiny))


def full_range(weights: Tensor, bits: int) -> Tensor:
    """Scale s = 2 max |w|: the grid reaches from the smallest to the largest weight."""
    return 2 * weights.abs().amax()


def normal(weights: Tensor, bits: int) -> Tensor:
    """The scale whose mean square error is least for normally distributed weights on symmetric levels."""
    step_in_deviations = (0.996, 0.586, 0.335, 0.188, 0.104, 0.057, 0.031)[bits - 2]
    return (2**bits - 1) * step_in_deviations * weights.square().mean().sqrt()


FULL_RANGE = Quantizer(full_range, symmetric=False)
"""The paper's."""
NORMAL = Quantizer(normal, symmetric=True)
QUANTIZERS = {"full-range": FULL_RANGE, "normal": NORMAL}


def planes(codes: Tensor, bits: int) -> Tensor:
    """Bit planes B_i of `codes`, shape (bits, *codes.shape), most significant first (step 4)."""
    powers = 2 ** torch.arange(bits - 1, -1, -1).reshape(bits, *[1] * codes.dim())
    return codes.long().unsqueeze(0).div(powers, rounding_mode="floor") % 2


def from_planes(bit_planes: Tensor) -> Tensor:
    """Codes whose bit planes, most significant first, are `bit_planes`; real-valued planes are allowed."""
    bits = len(bit_planes)
    powers = 2 ** torch.arange(bits - 1, -1, -1).reshape(bits, *[1] * (bit_planes.dim() - 1))
    return (bit_planes * powers).sum(0)
