"""Quantized activations: what leaves every activation layer of a model, on the device."""

import torch
from torch import Tensor, nn

from fedmpq.errors import UserError
from fedmpq.quantization.fake import quantize_activation

MAXIMUM, MINIMUM = "activation_maximum", "activation_minimum"
UNSIGNED = (nn.ReLU, nn.ReLU6)
SIGNED = (nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.Tanh)


class ActivationQuantizer:
    """Quantizes the outputs of all activation layers of a model, one scale a tensor.

    The range is that of the values since `reset`, 0 included, in buffers of each layer, so that it travels with the
    model. It follows the data in training mode and stays as it is in evaluation mode. Layers whose outputs are never
    below 0 have no minimum: their codes are unsigned.
    """

    def __init__(self, model: nn.Module, bits: int):
        """Attach to `model`; `bits` is 1 .. 8.

        Raises:
            UserError: the model has no activation layer that is known here.
        """
        self.bits = bits
        self.enabled = True
        self.layers = [module for module in model.modules() if isinstance(module, (*UNSIGNED, *SIGNED))]
        if not self.layers:
            known = ", ".join(kind.__name__ for kind in (*UNSIGNED, *SIGNED))
            raise UserError(f"model.activation_bits: the model has none of the layers {known}; allowed for it: null")
        for layer in self.layers:
            for name in (MAXIMUM,) if isinstance(layer, UNSIGNED) else (MAXIMUM, MINIMUM):
                layer.register_buffer(name, torch.zeros(()))
            layer.register_forward_hook(self._quantize)

    def reset(self) -> None:
        """Forget all ranges."""
        for layer in self.layers:
            for name in (MAXIMUM, MINIMUM):
                if hasattr(layer, name):
                    getattr(layer, name).zero_()

    def _quantize(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.enabled:
            return output
        maximum, minimum = getattr(layer, MAXIMUM), getattr(layer, MINIMUM, None)
        if layer.training:
            maximum.copy_(torch.maximum(maximum, _largest(output.detach(), minimum is None)))
            if minimum is not None:
                minimum.copy_(torch.minimum(minimum, output.detach().amin()))
        return quantize_activation(output, maximum, self.bits, minimum, within=layer.training)


def _largest(values: Tensor, unsigned: bool) -> Tensor:
    if unsigned and values.dtype == torch.bfloat16:  # Not below 0, their bits are in order too, and compared faster.
        return values.view(torch.int16).amax().view(torch.bfloat16)
    return values.amax()
