"""FedMPQ: mixed-precision quantized models, trained together by devices of different bit budgets."""

from importlib import import_module
from typing import Any

_HOMES = {
    **dict.fromkeys(("partition", "quantize", "planes", "pack", "unpack", "allocate"), "fedmpq.pieces"),
    **dict.fromkeys(("Experiment", "run", "save"), "fedmpq.library"),
    "load": "fedmpq.export.packed",
}
"""What the package offers, and the module that is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
