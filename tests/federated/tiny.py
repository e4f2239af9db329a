"""A run so small that a test can carry it out: settings, a partition, workers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from fedmpq.config import Experiment, load_parameters
from fedmpq.data.partition import Partition
from fedmpq.federated.setup import Setup

CLASSES, TRAIN, TEST = 3, 60, 30
SHARES = {2: [0.4], 3: [0.5, 0.8], 4: [0.25, 0.45, 0.7]}
"""Where the clients' parts of the training set end, by their number: no two parts are alike."""
BASE = load_parameters(Path(__file__).parents[2] / "params.yaml").experiment("digits").model_dump(by_alias=True)
SETTINGS = {
    "data": "tiny",
    "image_size": None,
    "model": "user_models:perceptron",
    "activation_bits": None,
    "quantizer": "full-range",
    "train_samples": None,
    "flip": False,
    "crop_padding": 0,
    "min_samples": 1,
    "seeds": [0],
    "rounds": 2,
    "participation": 1.0,
    "min_answers": 1,
    "max_repeats": 0,
    "dropout": 0.0,
    "deadline": None,
    "averaging": "samples",
    "local_epochs": 1,
    "batch_size": 8,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "precision": "float32",
    "evaluate_quantized": False,
}


def experiment(budgets=(2, 4, 8), **changes):
    """Settings of a run with one client for each budget."""
    clients = {"clients": len(budgets), "budgets": list(budgets)}
    return Experiment.model_validate({**BASE, **SETTINGS, **clients, **changes})


def partition(clients, samples=TRAIN):
    """The training images divided unequally; client 0 holds the white one."""
    order = np.concatenate([[0], 1 + np.random.default_rng(1).permutation(samples - 1)])
    inner = [int(share * samples) for share in SHARES[clients]]
    offsets = np.array([0, *inner, samples])
    parts = [np.sort(order[start:end]) for start, end in pairwise(offsets)]
    return Partition(np.concatenate(parts), offsets)


def setup(data, algorithm="fedmpq", seed=0, budgets=(2, 4, 8), **changes):
    """What the workers of such a run need."""
    settings = experiment(budgets, **changes)
    return Setup(settings, algorithm, seed, data, partition(len(budgets)), torch.device("cpu"), "float32")
