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


def quantize_activation(
    activation: Tensor, maximum: Tensor, bits: int, minimum: Tensor | None = None, within: bool = False
) -> Tensor:
    """Uniform quantization to 2^bits - 1 steps between `minimum` and `maximum`; 0 is one of the levels.

    Args:
        activation: any shape; not below 0 where there is no minimum.
        maximum: 0-dimensional, >= 0; larger activations saturate.
        bits: 1 .. 8.
        minimum: 0-dimensional, <= 0; smaller activations saturate. None: 0.
        within: no activation is outside the range, so that none has to be looked for.

    The gradient is straight through. A range of nothing but 0 leaves only 0.
    """
    levels = 2**bits - 1
    spread = maximum if minimum is None else maximum - minimum
    step = (spread / levels).to(activation.dtype)
    divisor = step.clamp(min=torch.finfo(torch.float32).tiny)
    codes = (activation.detach() / divisor).round_()
    if minimum is not None:
        lowest = (minimum / divisor).round()
        codes.clamp_(lowest, lowest + levels)
    elif not within or levels * torch.finfo(codes.dtype).eps >= 0.5:  # The quotient is off by so much at most.
        codes.clamp_(max=levels)
    return straight_through(activation, codes.mul_(step))
