"""Statistics of batch norm, measured by clients for the very model that a device runs, in forward passes alone.

Those that travel are averages over clients of other bit-widths, each at the end of a training of its own.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from fedmpq.errors import UserError
from fedmpq.export.packed import Device
from fedmpq.federated.setup import Setup
from fedmpq.seeding import numpy_generator

BATCH = 32
Moments = list[tuple[Tensor, Tensor]]
"""Mean and variance of each channel, for each layer of batch norm."""


def calibrate(device: Device, setup: Setup, budget: float, images: int) -> None:
    """Give `device` the statistics of its own outputs, as clients measure them that can hold it.

    Args:
        device: whose model has the average bits a weight `budget`.
        setup: of the run.
        budget: clients of a smaller one take no part.
        images: that a client measures on, drawn by the run's seed; all that it has, if these are fewer.

    Raises:
        UserError: no client can hold the model, or it has no batch norm.
    """
    able = [client for client, own in enumerate(setup.experiment.model.budgets) if own >= budget]
    norms = [module for module in device.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not able or not norms:
        lacking = "the model has no batch norm" if able else f"no client has a budget of {budget:g}"
        raise UserError(f"--calibrate is not possible: {lacking}")
    parts = [_images(setup, client, images) for client in able]
    _pool(norms, [(len(part), _measured(device, norms, part)) for part in parts if len(part) > 1])


def _images(setup: Setup, client: int, count: int) -> Tensor:
    indices = setup.partition.client(client)
    order = numpy_generator(setup.seed, "calibration", client).permutation(indices)
    return torch.from_numpy(setup.dataset.train_images[order[:count]])


@torch.no_grad()
def _measured(device: Device, norms: list[_BatchNorm], images: Tensor) -> Moments:
    """What leaves the layers before `norms` on one client's images; of activations the ranges stay as they are."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for batch in images.tensor_split(math.ceil(len(images) / BATCH)):
        device(batch)
    return [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]


def _pool(norms: list[_BatchNorm], measured: Iterable[tuple[int, Moments]]) -> None:
    """Mean and variance of all clients' images together: the variance of their means is part of it."""
    counts, moments = zip(*measured, strict=True)
    shares = (torch.tensor(counts) / sum(counts)).unsqueeze(1)
    for norm, own in zip(norms, zip(*moments, strict=True), strict=True):
        means, variances = (torch.stack(values) for values in zip(*own, strict=True))
        mean = (shares * means).sum(0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((shares * (variances + (means - mean).square())).sum(0))
        norm.eval()
