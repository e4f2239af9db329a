"""How much memory a run will take, about: to be told before it begins."""

import torch
from torch import Tensor, nn

from fedmpq.config import Execution
from fedmpq.engine.hardware import available_cores
from fedmpq.federated.setup import Setup

MAIN = 830 * 2**20
"""Bytes of the libraries: of the process that is the server, and of the one from which workers are forked."""
WORKER = 270 * 2**20
"""Bytes that a worker adds before it has seen an image of its own."""
OVERHEAD = 1.25
"""A training step takes so much more than the outputs of the modules, which it keeps for the gradient."""


def expected_memory(setup: Setup, execution: Execution) -> float:
    """Bytes that the processes of a run take together at their peak, to about a fifth."""
    model, _, _ = setup.build_model()
    values = setup.experiment.training.batch_size * outputs(model, setup.dataset.image_size)
    size = 2 if setup.precision == "bfloat16" else 4
    return MAIN + workers(execution) * (WORKER + OVERHEAD * size * values)


def workers(execution: Execution) -> int:
    """How many clients this machine trains at a time."""
    return 1 if execution.executor == "sequential" else execution.workers or available_cores()


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
