"""Writes small result folders in the documented formats: data/partitions/E, data/prepared/E, results/E/A/alpha-L."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedmpq.config import Parameters, load_parameters

REPO = Path(__file__).parents[2]
BITS = {"fp32": 32, "fpq8": 8}


def layers(depth: int) -> dict[str, int]:
    """Name and number of weights of each layer of a CIFAR ResNet."""
    widths = [16, 32, 64]
    per_stage = (depth - 2) // 3
    sizes, incoming = {"conv1": 3 * 16 * 9}, 16
    for index in range(3 * per_stage):
        width = widths[index // per_stage]
        sizes[f"conv{index + 2}"] = incoming * width * 9
        incoming = width
    return sizes | {"fc": 640}


def fedmpq_bits(sizes: dict[str, int], budget: float) -> dict[str, int]:
    """Eight bits everywhere; while above the budget, the largest layer that has more than one gives one."""
    bits, total = dict.fromkeys(sizes, 8), sum(sizes.values())
    while sum(sizes[name] * b for name, b in bits.items()) > budget * total:
        largest = max((name for name in sizes if bits[name] > 1), key=lambda name: sizes[name])
        bits[largest] -= 1
    return bits


class Project:
    """A project folder with parameters, into which finished runs are written."""

    def __init__(self, root: Path, experiment: str = "digits", **overrides: object):
        self.root, self.experiment = root, experiment
        self.parameters: Parameters = load_parameters(REPO / "params.yaml", overrides)
        self.settings = self.parameters.experiment(experiment)
        self.sizes = layers(int(self.settings.model.removeprefix("resnet")))

    def cell(self, algorithm: str, alpha: float, finals: list[float], speed: float = 0.3, wobble: float = 0.0) -> Path:
        """Write one cell whose seed s ends at accuracy `finals[s]`; the larger `speed`, the sooner."""
        settings, seeds = self.settings, list(range(len(finals)))
        rounds = np.arange(1, settings.rounds + 1)
        total = sum(self.sizes.values())
        rows, bits = [], []
        for seed, final in enumerate(finals):
            noise = np.random.default_rng(seed).normal(0, wobble, len(rounds)) * (rounds < settings.rounds - 4)
            accuracy = np.where(rounds > settings.rounds - 5, final, final * (1 - np.exp(-speed * rounds)) + noise)
            sent = sum(total * self._bits(algorithm, b) / 8 + 4000 for b in settings.budgets)
            rows.append(
                pd.DataFrame(
                    {"seed": seed, "round": rounds, "test_accuracy": accuracy.clip(0, 1), "test_loss": 1 - accuracy}
                    | {"train_loss": 1 - accuracy, "uplink_bytes": (sent * rounds).astype(int)}
                    | {"downlink_bytes": (sent * rounds).astype(int), "seconds": 1.5}
                )
            )
            bits += [self._layer_bits(algorithm, seed, client, b) for client, b in enumerate(settings.budgets)]
        folder = self.root / "results" / self.experiment / algorithm / f"alpha-{self.parameters.alpha_label(alpha)}"
        folder.mkdir(parents=True)
        pd.concat(rows).to_csv(folder / "rounds.csv", index=False)
        table = pd.concat(bits).sort_values(["seed", "round", "client"], kind="stable")
        table.to_csv(folder / "bits.csv", index=False)
        accuracy = {"mean": float(np.mean(finals)), "std": float(np.std(finals, ddof=1)) if len(finals) > 1 else None}
        accuracy |= {f"seed-{seed}": final for seed, final in zip(seeds, finals, strict=True)}
        average = float(np.mean([self._bits(algorithm, b) for b in settings.budgets]))
        size = {"uplink": sent / settings.clients, "downlink": sent / settings.clients, "nominal": total * average / 8}
        metrics = {"experiment": self.experiment, "algorithm": algorithm, "alpha": alpha, "seeds": seeds}
        metrics |= {"rounds": settings.rounds, "final_accuracy": accuracy, "best_accuracy": accuracy}
        metrics |= {"average_bits": {"given": average, "left": average - 0.3}, "bytes_per_client_and_round": size}
        metrics |= {"seconds_per_round": 1.5, "partition": {"seed-0": "0"}, "fingerprint": "0"}
        metrics["hardware"] = {"processor": "Test CPU", "cores": 2, "memory_gib": 8, "device": "cpu"}
        metrics["hardware"] |= {"precision": "float32", "executor": "processes", "workers": 2, "torch": "2.14.1"}
        metrics["parameters"] = settings.model_dump(exclude={"fp32", "fpq8", "aqfl", "fedmpq", "pruning"})
        metrics["parameters"] |= {f"{algorithm}.aggregation": "weights", "algorithm": algorithm}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    def partition(self, alpha: float, counts: np.ndarray) -> None:
        """Write counts.csv of seed 0."""
        folder = self.root / "data/partitions" / self.experiment / f"alpha-{self.parameters.alpha_label(alpha)}"
        folder.mkdir(parents=True)
        table = pd.DataFrame(counts, columns=[f"label_{label}" for label in range(counts.shape[1])])
        table.insert(0, "client", range(len(counts)))
        table.insert(0, "seed", 0)
        table.to_csv(folder / "counts.csv", index=False)

    def meta(self, classes: list[str]) -> None:
        """Write meta.json of the prepared data."""
        folder = self.root / "data/prepared" / self.experiment
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"data": self.experiment, "classes": classes}))

    def _bits(self, algorithm: str, budget: float) -> float:
        return BITS.get(algorithm, budget)

    def _layer_bits(self, algorithm: str, seed: int, client: int, budget: float) -> pd.DataFrame:
        uniform = dict.fromkeys(self.sizes, int(self._bits(algorithm, budget)))
        given = fedmpq_bits(self.sizes, budget) if algorithm == "fedmpq" else uniform
        columns = {"seed": seed, "client": client, "budget": budget, "layer": list(self.sizes)}
        columns |= {"parameters": list(self.sizes.values()), "bits_given": list(given.values())}
        one = pd.DataFrame(columns)
        one["bits_left"] = (one["bits_given"] - (algorithm == "fedmpq")).clip(lower=1)
        rounds = range(1, self.settings.rounds + 1)
        order = ["seed", "round", "client", "budget", "layer", "parameters", "bits_given", "bits_left"]
        return pd.concat([one.assign(round=r) for r in rounds])[order]


@pytest.fixture(scope="session")
def project_class():
    return Project


@pytest.fixture
def make_project(tmp_path):
    """A function that makes a project of 10 rounds, without results, for an experiment and overrides."""

    def make(experiment: str = "digits", **overrides: object) -> Project:
        return Project(tmp_path, experiment, **{f"{experiment}.rounds": 10, "alphas": [0.1, 0.5], **overrides})

    return make


@pytest.fixture
def project(make_project):
    return make_project()
