"""Quantized activations: what leaves every ReLU of a model, on the device."""

import torch
from torch import Tensor, nn

from fedmpq.errors import UserError
from fedmpq.quantization.fake import quantize_activation

RANGE = "activation_maximum"


class ActivationQuantizer:
    """Quantizes the outputs of all nn.ReLU modules of a model, unsigned, one scale a tensor.

    The scale is the running maximum since `reset`, a buffer of each ReLU, so that it travels with
    the model. It follows the data in training mode and stays as it is in evaluation mode.
    """

    def __init__(self, model: nn.Module, bits: int):
        """Attach to `model`; `bits` is 1 .. 8.

        Raises:
            UserError: the model has no nn.ReLU module.
        """
        self.bits = bits
        self.enabled = True
        self.activations = [module for module in model.modules() if isinstance(module, nn.ReLU)]
        if not self.activations:
            raise UserError("activation_bits: the model has no nn.ReLU module; allowed for it: null")
        for module in self.activations:
            module.register_buffer(RANGE, torch.zeros(()))
            module.register_forward_hook(self._quantize)

    def reset(self) -> None:
        """Forget all maxima."""
        for module in self.activations:
            getattr(module, RANGE).zero_()

    def _quantize(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.enabled:
            return output
        maximum = getattr(module, RANGE)
        if module.training:
            maximum.copy_(torch.maximum(maximum, output.detach().amax()))
        return quantize_activation(output, maximum, self.bits)
