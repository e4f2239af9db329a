"""Statistics of batch norm, measured by clients for one model in forward passes alone.

Those that clients gather in training belong to the bit-widths of each, at the end of its own way: their average fits
neither the global model nor a device's.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedmpq.data.partition import Partition
from fedmpq.seeding import numpy_generator

BATCH = 32
FLOAT = np.dtype("<f4")
LARGEST = 2.0**60
"""No mean or variance is beyond it, so that the squares of means stay finite."""


def norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers of batch norm with statistics that evaluation uses."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


def chosen(partition: Partition, client: int, count: int, *key: int | str) -> list[NDArray[np.int64]]:
    """Batches of indices of up to `count` images of `client`, drawn by `key`; none of them is of a single image."""
    indices = numpy_generator(*key, "calibration", client).permutation(partition.client(client))[:count]
    return np.array_split(indices, math.ceil(len(indices) / BATCH)) if len(indices) > 1 else []


@torch.no_grad()
def measure(model: nn.Module, batches: Iterable[Tensor]) -> bytes:
    """Mean and variance (2, C) of what enters the channels of all layers of batch norm, over `batches` of images.

    They are float32, little-endian. All else, ranges of activations too, stays as in evaluation.
    """
    layers = norms(model.eval())
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    for batch in batches:
        model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    parts = ([layer.running_mean for layer in layers], [layer.running_var for layer in layers])
    return torch.stack([torch.cat(part) for part in parts]).cpu().numpy().astype(FLOAT).tobytes()


def read(data: bytes, model: nn.Module) -> Tensor | None:
    """The mean and variance (2, C) that a client says it has measured of `model`; None: that cannot be."""
    count = sum(layer.num_features for layer in norms(model))
    if len(data) != 2 * count * FLOAT.itemsize:
        return None
    moments = torch.from_numpy(np.frombuffer(data, FLOAT).astype(np.float32).reshape(2, count))
    return moments if (moments.abs() <= LARGEST).all() and (moments[1] >= 0).all() else None


def pool(weights: Sequence[float], moments: Sequence[Tensor]) -> Tensor:
    """Mean and variance (2, C) over the images of all clients: the variance of the clients' means is part of it.

    Args:
        weights: of the clients.
        moments: what each has measured (2, C).
    """
    shares = (torch.tensor(weights) / sum(weights)).unsqueeze(1)
    means, variances = torch.stack(list(moments)).unbind(1)
    mean = (shares * means).sum(0)
    return torch.stack([mean, (shares * (variances + (means - mean).square())).sum(0)])


def load(moments: Tensor, model: nn.Module) -> None:
    """Give the layers of batch norm of `model` the mean and variance (2, C) of their channels."""
    layers = norms(model)
    parts = moments.split([layer.num_features for layer in layers], dim=1)
    for layer, (mean, variance) in zip(layers, parts, strict=True):
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
