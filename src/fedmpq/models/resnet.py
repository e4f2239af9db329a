"""CIFAR ResNets of depth 6n + 2 with parameter-free shortcuts (He et al. 2016, section 4.2).

Parameters at 10 classes: depth 20: 0.27 M, depth 44: 0.66 M.
"""

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)


class ResNet(nn.Module):
    """Layers conv1 .. conv<depth-1> and fc, in the order in which the signal passes them.

    Conv 2k and 2k + 1 form residual block k; each convolution has its batch norm and its ReLU.
    """

    def __init__(self, depth: int, classes: int):
        super().__init__()
        blocks_per_stage = (depth - 2) // 6
        self.depth = depth
        channels = [3, WIDTHS[0]] + [width for width in WIDTHS for _ in range(2 * blocks_per_stage)]
        for index in range(1, depth):
            incoming, outgoing = channels[index - 1 : index + 1]
            stride = 1 if index == 1 or incoming == outgoing else 2
            conv = nn.Conv2d(incoming, outgoing, 3, stride, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.add_module(f"conv{index}", conv)
            self.add_module(f"norm{index}", nn.BatchNorm2d(outgoing))
            self.add_module(f"relu{index}", nn.ReLU())
        self.fc = nn.Linear(WIDTHS[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W); H and W are at least 4."""
        signal = self.relu1(self._normed_conv(1, images))
        for index in range(2, self.depth, 2):
            inner = getattr(self, f"relu{index}")(self._normed_conv(index, signal))
            residual = self._normed_conv(index + 1, inner)
            signal = getattr(self, f"relu{index + 1}")(residual + shortcut(signal, residual))
        return self.fc(signal.mean((2, 3)))

    def _normed_conv(self, index: int, signal: Tensor) -> Tensor:
        return getattr(self, f"norm{index}")(getattr(self, f"conv{index}")(signal))


def shortcut(signal: Tensor, residual: Tensor) -> Tensor:
    """`signal` (N, C, H, W) in the shape of `residual`: every second pixel, new channels zero (option A)."""
    missing = residual.shape[1] - signal.shape[1]
    if not missing:
        return signal
    return F.pad(signal[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing - missing // 2))
