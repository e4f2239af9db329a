"""Fake quantization: quantized values forward, the straight-through gradient backward."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fedmpq.quantization.codes import Grid


class _StraightThrough(Function):
    """Replace a tensor by `values`; the gradient passes as if nothing had been replaced."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, values: Tensor) -> Tensor:
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def straight_through(tensor: Tensor, values: Tensor) -> Tensor:
    """`values` forward, the gradient of the identity in `tensor` backward; shapes are equal."""
    return _StraightThrough.apply(tensor, values)


def fake_quantize(weights: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """`weights` on `grid`, with the straight-through gradient, and their codes, without one."""
    codes = grid.encode(weights.detach())
    return straight_through(weights, grid.decode(codes)), codes


def quantize_activation(activation: Tensor, maximum: Tensor, bits: int) -> Tensor:
    """Unsigned uniform quantization to 2^bits - 1 steps between 0 and `maximum`.

    Args:
        activation: values >= 0, any shape.
        maximum: 0-dimensional, >= 0; larger activations saturate.
        bits: 1 .. 8.

    The gradient is straight through. A maximum of 0 leaves only 0.
    """
    levels = 2**bits - 1
    step = (maximum / levels).to(activation.dtype)
    codes = (activation.detach() / step.clamp(min=torch.finfo(torch.float32).tiny)).round_().clamp_(max=levels)
    return straight_through(activation, codes.mul_(step))
