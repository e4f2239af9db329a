"""How many workers a run has and how much memory they take, about: to be told before it begins."""

from math import ceil

import torch
from torch import Tensor, nn

from fedmpq.config import Execution
from fedmpq.engine.hardware import available_cores, available_memory
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import EVALUATION_CHUNK

MAIN = 830 * 2**20
"""Bytes of the libraries: of the process that is the server, and of the one from which workers are forked."""
WORKER = 270 * 2**20
"""Bytes that a worker adds before it has seen an image of its own."""
OVERHEAD = 1.25
"""A training step takes so much more than the outputs of the modules, which it keeps for the gradient."""
ON_GPU = 4
"""Workers that share a GPU: more would only take its memory."""


def plan(setup: Setup, execution: Execution) -> tuple[int, float]:
    """How many clients are trained at a time, and bytes that all processes take at their peak, to about a fifth.

    There are as many workers as asked for, if there are tasks, cores and memory for them.
    """
    each = _worker_memory(setup)
    count = _workers(setup, execution, each)
    return count, MAIN + count * each


def workers(setup: Setup, execution: Execution) -> int:
    """How many clients are trained at a time: see `plan`."""
    return 1 if execution.executor == "sequential" else plan(setup, execution)[0]


def _workers(setup: Setup, execution: Execution, memory: float) -> int:
    if execution.executor == "sequential":
        return 1
    tasks = max(setup.experiment.asked, ceil(len(setup.evaluation_images[1]) / EVALUATION_CHUNK))
    if execution.ray_address:  # Its machines are others.
        return min(execution.workers or tasks, tasks)
    cores = available_cores()
    wanted = execution.workers or (ON_GPU if setup.device.type == "cuda" else cores)
    return max(1, min(wanted, tasks, cores, int((available_memory() - MAIN) / memory)))


def _worker_memory(setup: Setup) -> float:
    """Bytes that a worker takes at its peak."""
    model, _, _ = setup.build_model()
    values = setup.experiment.training.batch_size * outputs(model, setup.dataset.image_size)
    return WORKER + OVERHEAD * (2 if setup.precision == "bfloat16" else 4) * values


def outputs(model: nn.Module, image_size: int) -> int:
    """How many values all modules of `model` put out for one image."""
    sizes = []

    def note(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, image_size, image_size))
    for hook in hooks:
        hook.remove()
    return sum(sizes)
