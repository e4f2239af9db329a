"""The algorithms, a file each. They share one engine and differ in who decides bit-widths and what clients train."""

from importlib import import_module

from fedmpq.config import AlgorithmSettings
from fedmpq.federated.algorithms.base import Algorithm


def build_algorithm(name: str, settings: AlgorithmSettings) -> Algorithm:
    """The algorithm called `name`. Only its own module is imported: its results depend on no other's."""
    return import_module(f"{__name__}.{name}").ALGORITHM(settings)
