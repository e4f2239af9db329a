"""Every parameter: its type, what it means, what is allowed; read from params.yaml and checked here."""

from fedmpq.config.algorithms import (
    ALGORITHM_NAMES,
    MAX_BITS,
    AlgorithmSettings,
    FedMPQPlusSettings,
    FedMPQSettings,
    QuantizedSettings,
)
from fedmpq.config.experiment import GROUPS, DataSettings, Experiment, TrainingSettings
from fedmpq.config.parameters import Execution, Parameters, load_parameters, parse_overrides
from fedmpq.config.tune import Dimension, Tune

__all__ = [
    "ALGORITHM_NAMES",
    "GROUPS",
    "MAX_BITS",
    "AlgorithmSettings",
    "DataSettings",
    "Dimension",
    "Execution",
    "Experiment",
    "FedMPQPlusSettings",
    "FedMPQSettings",
    "Parameters",
    "QuantizedSettings",
    "TrainingSettings",
    "Tune",
    "load_parameters",
    "parse_overrides",
]
