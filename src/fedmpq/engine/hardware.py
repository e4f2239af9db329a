"""Where and in which arithmetic to compute."""

import ctypes
import platform
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
import torch
from joblib import cpu_count

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


def keep_memory() -> None:
    """Let this process keep the memory that it frees.

    What a training step frees glibc would hand back to the system, and take it again page by page in the next one.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
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
