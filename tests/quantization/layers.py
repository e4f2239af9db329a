"""Layers for the tests to draw."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedmpq.quantization.codes import FULL_RANGE

BITS = st.integers(1, 8)
SCALES = st.floats(2.0**-60, 2.0**60, width=32)


def _without_underflow(weights):
    return torch.from_numpy(np.where(np.abs(weights) < 2.0**-60, np.float32(0), weights))


WEIGHTS = arrays(
    np.float32, array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.floats(-1e4, 1e4, width=32)
).map(_without_underflow)


def grid_of(bits, scale, quantizer=FULL_RANGE):
    """The grid of one layer."""
    return quantizer.grid(torch.tensor(bits), torch.as_tensor(scale, dtype=torch.float32))


def levels(grid):
    """All values of the grid of one layer, ascending."""
    return grid.decode(torch.arange(int(grid.steps) + 1.0))
