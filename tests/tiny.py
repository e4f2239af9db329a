"""A run so small that a test can carry it out: data, settings, a partition, workers."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from fedmpq.config import GROUPS, load_parameters
from fedmpq.data.partition import Partition
from fedmpq.federated.setup import Setup

CLASSES, TRAIN, TEST = 3, 60, 30
SHARES = {2: [0.4], 3: [0.5, 0.8], 4: [0.25, 0.45, 0.7]}
"""Where the clients' parts of the training set end, by their number: no two parts are alike."""
PARAMETERS = load_parameters(Path(__file__).parents[1] / "params.yaml")
SETTINGS = {
    "source": "tiny",
    "image_size": None,
    "min_samples": 1,
    "seeds": [0],
    "network": "user_models:perceptron",
    "activation_bits": None,
    "rounds": 2,
    "local_epochs": 1,
    "batch_size": 8,
    "lr": 0.05,
    "precision": "float32",
    "max_repeats": 0,
}
"""What differs from section `digits`."""
PLACES = {key: f"{group}.{key}" for group, keys in GROUPS.items() for key in keys.model_fields}
"""Dotted keys of the groups' keys, no two of which have the same name."""


def write_arrays(folder):
    """A prepared set: 3 classes that differ by colour, 60 training and 30 test images of 8 x 8 pixels.

    Training image 0 is white, no other one is. It is recorded as made of source `tiny`.
    """
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, count in (("train", TRAIN), ("test", TEST)):
        labels = np.arange(count) % CLASSES
        images = generator.integers(0, 120, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 60
        if part == "train":
            images[0] = 255
            mean, std = ((measure(images / 255, (0, 1, 2))).tolist() for measure in (np.mean, np.std))
        np.save(folder / f"{part}_images.npy", images.astype(np.uint8))
        np.save(folder / f"{part}_labels.npy", labels)
    meta = {"data": "tiny", "classes": ["red", "green", "blue"], "image_size": 8, "mean": mean, "std": std}
    (folder / "meta.json").write_text(
        json.dumps({**meta, "train": TRAIN, "test": TEST, "source": "drawn by the tests"})
    )
    made_with = {"source": "tiny", "image_column": None, "label_column": None, "image_size": None}
    (folder / "made-with.json").write_text(json.dumps(made_with))


def experiment(budgets=(2, 4, 8), **changes):
    """Settings of a run with one client for each budget; `changes` by the keys of their groups, or by algorithm."""
    values = {**SETTINGS, "clients": len(budgets), "budgets": list(budgets), **changes}
    return PARAMETERS.varied("digits", {PLACES.get(key, key): value for key, value in values.items()})


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
