"""Where and in which arithmetic to compute, by how many workers, and in how much memory."""

import ctypes
import platform
import re
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path

import psutil
import torch
from joblib import cpu_count
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from fedmpq.config import Execution
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
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt's options in malloc.h."""
KEPT_BYTES = 2**30
CGROUP = Path("/sys/fs/cgroup")
CONTAINERS = (
    ("memory.max", "memory.stat", "anon"),
    ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss"),
)
"""Where a container's limit of memory stands, and what it uses of it, in either version of control groups."""


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto`: a GPU where there is one."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return torch.device(name) if name != "auto" else accelerator or torch.device("cpu")


def resolve_precision(name: str, device: torch.device) -> str:
    """`float32` or `bfloat16`; `auto`: bfloat16 where `device` computes in it natively."""
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        native = any(capabilities.get(key, False) for key in ("avx512_bf16", "amx_bf16", "sve_bf16"))
    return "bfloat16" if native else "float32"


@cache
def available_memory() -> int:
    """Bytes that processes could take when this was first asked, a container's limit counted."""
    free = psutil.virtual_memory().available
    for limit, usage, key in CONTAINERS:
        with suppress(OSError, ValueError):  # There is none, or it has no limit.
            used = dict(line.split() for line in (CGROUP / usage).read_text().splitlines())[key]
            free = min(free, int((CGROUP / limit).read_text()) - int(used))
    return free


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


def keep_memory() -> None:
    """Let this process keep the memory that it frees.

    What a training step frees glibc would hand back to the system, and take it again page by page in the next one.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option in (MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD):
            library.mallopt(option, KEPT_BYTES)


def describe(device: torch.device) -> dict[str, str | int | float]:
    """Processor, cores (a container's share counted), memory (GiB) and device, for whoever reads a time."""
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", about.read_text()) if about.exists() else None
    return {
        "processor": found[1] if found else platform.machine(),
        "cores": cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
    }
