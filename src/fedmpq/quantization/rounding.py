"""How a vector of values becomes codes of b bits: to the nearest level, at random, or on a dithered lattice.

A coder works on all layers of a model: `values` (P,) are theirs one after another, `sizes` counts the values of each
layer (L), `bits` (1 .. 8) and `scales` (float32, >= 0) have one entry a layer. Whoever decodes needs a coder of the
same key.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from fedmpq.quantization.codes import Grid, Quantizer


class Coder(Protocol):
    """Values to codes and back."""

    def encode(self, values: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """Codes (P,), whole numbers 0 .. 2^b - 1."""

    def decode(self, codes: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """The values (P,) that `codes` stand for."""


class Nearest:
    """To the nearest level of each layer's `Grid`."""

    def __init__(self, quantizer: Quantizer):
        self.quantizer = quantizer

    def encode(self, values: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """See `Coder.encode`."""
        return self._grid(sizes, bits, scales).encode(values)

    def decode(self, codes: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """See `Coder.decode`."""
        return self._grid(sizes, bits, scales).decode(codes.float())

    def _grid(self, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Grid:
        return self.quantizer.grid(torch.tensor(bits), scales).expand(torch.tensor(sizes))


class Stochastic:
    """To one of the two levels beside it, at random so that the mean is the value itself (FedPAQ, example 1).

    The levels stand evenly from -s/2 to s/2, both included: with a scale of the full range no value lies outside.
    """

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def encode(self, values: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """See `Coder.encode`."""
        steps, scale = _symmetric(sizes, bits, scales)
        relative = torch.where(scale > 0, values / scale, 0.0)
        draw = torch.rand(len(values), generator=self.generator)
        return torch.floor((relative + 0.5) * steps + draw).clamp_(torch.zeros_like(steps), steps)

    def decode(self, codes: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """See `Coder.decode`."""
        steps, scale = _symmetric(sizes, bits, scales)
        return (codes / steps - 0.5) * scale


def _symmetric(sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> tuple[Tensor, Tensor]:
    """2^b - 1 and the scale, one entry a value."""
    return tuple(t.repeat_interleave(torch.tensor(sizes)) for t in (2.0 ** torch.tensor(bits) - 1, scales))


class DitheredLattice:
    """Pairs of values to the nearest point of a hexagonal lattice, after a dither that is subtracted again (UVeQFed).

    The dither is uniform over a cell of the lattice, so the error is so too, whatever the values, and its mean is 0.
    Sent are the coordinates of the point modulo 2^b: the receiver takes the representative next to 0, which is the
    right one, as the scale (`pair_range`) leaves room for the error. The last value of an odd layer stands alone, on
    the lattice of whole numbers.
    """

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def encode(self, values: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """See `Coder.encode`."""
        codes = []
        for layer, b, scale in zip(values.split(sizes), bits, scales, strict=True):
            spacing = _spacing(b, scale)
            relative = torch.where(spacing > 0, layer / spacing, 0.0)
            codes += [lattice.nearest(part + self._dither(lattice, part)) % 2**b for lattice, part in _parts(relative)]
        return torch.cat([code.flatten() for code in codes])

    def decode(self, codes: Tensor, sizes: list[int], bits: tuple[int, ...], scales: Tensor) -> Tensor:
        """See `Coder.decode`."""
        values = []
        for layer, b, scale in zip(codes.float().split(sizes), bits, scales, strict=True):
            for lattice, part in _parts(layer):
                point = (lattice.point(part) - self._dither(lattice, part)) / 2**b
                values.append((point - lattice.point(lattice.nearest(point))) * 2**b * _spacing(b, scale))
        return torch.cat([value.flatten() for value in values])

    def _dither(self, lattice: "Lattice", part: Tensor) -> Tensor:
        point = lattice.point(torch.rand(part.shape, generator=self.generator))
        return point - lattice.point(lattice.nearest(point))


class Lattice:
    """The points that are sums of whole multiples of the rows of `basis`, (n, n)."""

    def __init__(self, basis: Tensor):
        self.basis, self.inverse = basis, basis.inverse()
        around = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * len(basis))
        self.corners = around.reshape(-1, len(basis))

    def point(self, coordinates: Tensor) -> Tensor:
        """The point (.., n) of these coordinates (.., n)."""
        return coordinates @ self.basis

    def nearest(self, points: Tensor) -> Tensor:
        """Coordinates, whole numbers, of the lattice point nearest to each of `points`, (m, n)."""
        corners = (points @ self.inverse).floor().unsqueeze(1) + self.corners
        distance = (self.point(corners) - points.unsqueeze(1)).square().sum(2)
        return corners[torch.arange(len(points)), distance.argmin(1)]


PAIRS = Lattice(torch.tensor([[1.0, 0.0], [0.5, math.sqrt(3) / 2]]))
"""Hexagonal: its points are 1 apart, and no place is further than 1 / sqrt 3 from one."""
SINGLE = Lattice(torch.ones(1, 1))


def _parts(layer: Tensor) -> list[tuple[Lattice, Tensor]]:
    even = len(layer) // 2 * 2
    return [(PAIRS, layer[:even].view(-1, 2)), (SINGLE, layer[even:].view(-1, 1))]


def _spacing(bits: int, scale: Tensor) -> Tensor:
    """Distance of neighbouring points: half the scale and an error fit into half the period of 2^b points."""
    return scale / (2**bits - 2 / math.sqrt(3))


def pair_range(weights: Tensor) -> Tensor:
    """Scale of one layer for `DitheredLattice`: twice the largest norm of a pair."""
    return 2 * max(part.norm(dim=1).amax() for _, part in _parts(weights.flatten()) if len(part))
