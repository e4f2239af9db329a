"""Batch norm of the very model that a device runs, calibrated by clients that can hold it."""

import torch

from fedmpq.errors import UserError
from fedmpq.export.packed import Device
from fedmpq.federated import calibration
from fedmpq.federated.setup import Setup


def calibrate(device: Device, setup: Setup, budget: float, images: int) -> None:
    """Give `device` the statistics that clients measure for its model, as `Federation` does for its accuracy.

    Args:
        device: whose model has the average bits a weight `budget`; it may have no batch norm.
        setup: of the run.
        budget: clients of a smaller one take no part.
        images: that a client measures on.

    Raises:
        UserError: no client can hold the model.
    """
    budgets, partition, data = setup.experiment.model.budgets, setup.partition, setup.dataset
    if not calibration.norms(device):
        return
    parts = {
        client: calibration.chosen(partition, client, images, setup.seed, device.card.round)
        for client, own in enumerate(budgets)
        if own >= budget
    }
    if not any(parts.values()):
        raise UserError(
            f"batch norm cannot be calibrated, no client has a budget of {budget:g}: leave it, --calibrate 0"
        )
    moments = {
        client: calibration.measure(device, (torch.from_numpy(data.train_images[batch]) for batch in batches))
        for client, batches in parts.items()
        if batches
    }
    weights = [len(partition.client(client)) for client in moments]
    calibration.load(calibration.pool(weights, [calibration.read(own, device) for own in moments.values()]), device)
