"""How many workers a run has and how much memory they take, about: to be told before it begins."""

from math import ceil

import torch
from joblib import cpu_count
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from fedmpq.config import Execution
from fedmpq.engine.hardware import available_memory
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
    values = setup.experiment.training.batch_size * outputs(setup.build_model()[0], setup.dataset.image_size)
    each = WORKER + OVERHEAD * (2 if setup.precision == "bfloat16" else 4) * values
    tasks = max(setup.experiment.asked, ceil(len(setup.evaluation_images[1]) / EVALUATION_CHUNK))
    limits = [execution.workers or tasks, tasks]
    if execution.executor == "sequential":
        limits = [1]
    elif not execution.ray_address:  # Its machines are others.
        limits += [cpu_count(), int((available_memory() - MAIN) / each)]
        limits += [ON_GPU] if setup.device.type == "cuda" and not execution.workers else []
    count = max(1, min(limits))
    return count, MAIN + count * each


def outputs(model: nn.Module, image_size: int) -> int:
    """How many values all modules of `model` put out for one image."""
    sizes = []

    def note(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            sizes.append(output.numel())

    with register_module_forward_hook(note), torch.inference_mode():
        model.eval()(torch.zeros(1, 3, image_size, image_size))
    return sum(sizes)
