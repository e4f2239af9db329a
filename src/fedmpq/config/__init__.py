"""Every parameter: its type, what it means, what is allowed; read from params.yaml and checked here."""

from fedmpq.config.experiment import (
    ALGORITHM_NAMES,
    GROUPS,
    MAX_BITS,
    Algorithms,
    AlgorithmSettings,
    Experiment,
    FedMPQSettings,
)
from fedmpq.config.parameters import Execution, Parameters, check_alpha, load_parameters, parse_overrides
from fedmpq.config.tune import Dimension, Tune

__all__ = [
    "ALGORITHM_NAMES",
    "GROUPS",
    "MAX_BITS",
    "AlgorithmSettings",
    "Algorithms",
    "Dimension",
    "Execution",
    "Experiment",
    "FedMPQSettings",
    "Parameters",
    "Tune",
    "check_alpha",
    "load_parameters",
    "parse_overrides",
]
